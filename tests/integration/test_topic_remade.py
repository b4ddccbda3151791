"""A topic that is deleted and made anew, on the embedded broker; test-kafka has shorter and equal ones."""

from tests.integration.marquee_processes import Start
from tests.integration.remade_topic import check_remade


def test_a_topic_made_anew_is_an_error_until_one_says_to_go_on(environ: dict[str, str], start: Start) -> None:
    check_remade(environ, start, 80)
