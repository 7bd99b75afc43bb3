"""Every text of the labeling page is marked for translation: in a made-up language none of it stays English."""

import pytest

from tests.factories import make_comparison
from tests.labeling.test_page import PAGE, form_of
from tests.site.languages import CODE, english, speak_made_up


@pytest.fixture
def made_up(settings, tmp_path):
    speak_made_up(settings, tmp_path)


def test_no_text_of_the_labeling_page_stays_english(client, labeler, project, made_up):
    client.force_login(labeler)
    empty = client.get(PAGE, headers={"accept-language": CODE}).content.decode()
    make_comparison(project)
    page = client.get(PAGE, headers={"accept-language": CODE}).content.decode()
    for html in (empty, page):
        assert f'<html lang="{CODE}">' in html
        assert english(html) == []


def test_the_turns_of_a_conversation_are_said_in_the_readers_language(client, labeler, project, made_up):
    client.force_login(labeler)
    row = make_comparison(project)
    row.prompt.messages = [{"role": role, "content": "⟦…⟧"} for role in ("system", "user", "assistant", "user")]
    row.prompt.save()
    page = client.get(PAGE, headers={"accept-language": CODE}).content.decode()
    assert english(page) == []
    assert [f"⟦{role}⟧" in page for role in ("System", "User", "Assistant")] == [True] * 3


def test_a_refusal_is_said_in_the_readers_language(client, labeler, project, made_up):
    client.force_login(labeler)
    make_comparison(project)
    form = form_of(client.get(PAGE))
    response = client.post(PAGE, form | {"answer": "9"}, headers={"accept-language": CODE})
    assert "⟦Strength 9 is out of range; choose between -3 and 3.⟧" in response.content.decode()


@pytest.mark.parametrize("language", ["de", "xx", "", "eo"])
def test_a_language_that_we_do_not_have_is_english(client, labeler, project, language):
    client.force_login(labeler)
    response = client.get(PAGE, headers={"accept-language": language})
    assert '<html lang="en">' in response.content.decode()
