import torch

from alignment.models.precision import autocast, chosen_precision


def test_a_named_precision_is_taken_and_auto_measures_one():
    assert chosen_precision("fp32") == "fp32" and chosen_precision("bf16") == "bf16"
    assert chosen_precision("auto") in {"fp32", "bf16"}


def test_fp32_leaves_products_alone_and_bf16_lowers_them():
    left, right = torch.randn(4, 4), torch.randn(4, 4)
    with autocast("fp32"):
        assert (left @ right).dtype == torch.float32
    with autocast("bf16"):
        assert (left @ right).dtype == torch.bfloat16
