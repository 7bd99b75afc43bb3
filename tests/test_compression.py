"""What is sent compressed: pages, and nothing that must not wait or has no use for it."""

import gzip

from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from labelapp.compression import CompressedPages

BROWSER = {"Accept-Encoding": "gzip, deflate, br"}


def answered(response, headers=None):
    return CompressedPages(lambda request: response)(RequestFactory().get("/", headers=headers or BROWSER))


def test_a_page_is_compressed_and_named_so():
    response = answered(HttpResponse("<p>again</p>" * 200))
    assert response["Content-Encoding"] == "gzip"
    assert len(response.content) < 600
    assert gzip.decompress(response.content) == b"<p>again</p>" * 200
    assert "Accept-Encoding" in response["Vary"]


def test_who_does_not_take_it_gets_it_plain():
    page = HttpResponse("<p>again</p>" * 200)
    assert not answered(page, {"Accept-Encoding": "identity"}).has_header("Content-Encoding")


def test_the_length_does_not_tell_what_is_in_it():
    lengths = {len(answered(HttpResponse("<p>again</p>" * 200)).content) for _ in range(20)}
    assert len(lengths) > 1


def test_streams_and_other_types_stay_as_they_are():
    stream = answered(StreamingHttpResponse(iter(["data: 1\n\n"] * 100), content_type="text/html"))
    data = answered(HttpResponse(b"{}" * 500, content_type="application/json"))
    assert not stream.has_header("Content-Encoding") and not data.has_header("Content-Encoding")
