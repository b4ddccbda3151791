"""A topic that is deleted and made anew on a real Kafka: noticed whatever its length, also by running processes."""

import pytest

from tests.integration.marquee_processes import Start
from tests.integration.remade_topic import check_remade
from tests.integration.topics import Topic
from tests.polling import until

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("lines", [30, 50, 80])
def test_a_topic_made_anew_is_an_error_until_one_says_to_go_on(
    environ: dict[str, str], start: Start, lines: int
) -> None:
    check_remade(environ, start, lines)


def test_a_topic_made_anew_below_running_processes_ends_them_and_nothing_is_mixed(
    environ: dict[str, str], start: Start
) -> None:
    topic = Topic(environ)
    topic.make()
    old = topic.write(50)
    processes = [start(environ, "batch", "collect"), start(environ, "quality", "telemetry")]
    until(lambda: topic.archived() == old)
    until(lambda: topic.stored() == {0: 50})
    topic.delete()
    topic.make()
    topic.write(80)
    for process in processes:
        assert process.ends() == 1, process.text()
        assert "was deleted and made anew" in process.text()
    assert topic.archived() == old
    assert topic.stored() == {0: 50}
