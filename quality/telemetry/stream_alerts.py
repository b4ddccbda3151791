"""The alerts of telemetry: when answers are bad, and when telemetry cannot tell.

Each names its cause and a day in its id, so it is raised once a day however often it is seen. None of them holds a
night: a night learns from lines, not from how answers did. `stream_watch` decides when to look.
"""

from quality.alerts.alert_file import Alert
from quality.alerts.thresholds import hour_name
from quality.metrics.intervals import interval_text
from quality.telemetry.day_report import DayReport
from stream.zone import HOUR_MS, day_name

_LEAST_FAILED = 10
"""Fewer failed requests in an hour are never an alert.

Where one request of 1000 fails, ten of fewer than 1000 fail by chance once in nine million hours; of three requests,
one failure would be an alert every two weeks. A service that fails always is noticed at its tenth request.
"""
_LEAST_ANSWERS = 100
"""Of fewer answers a handful of users decide, whatever the interval says."""


def stream_silent(day: int, silent_s: float) -> Alert:
    """No line comes from a stream that was live; `day` is that of its last lines."""
    text = f"no line has come for {silent_s:.0f} s, and the stream was live. Do the service and Kafka run?"
    return Alert(id=f"stream_silent:{day_name(day)}", alert="stream_silent", text=text)


def partition_silent(day: int, partition: int) -> Alert:
    """No line comes from a partition, while others go on."""
    text = f"no line comes from partition {partition} any more, while others go on"
    return Alert(id=f"partition_silent:{partition}:{day_name(day)}", alert="partition_silent", text=text)


def report_overdue(day: int, hours: float) -> Alert:
    """A report is not final though it could have been for so many hours of stream time."""
    name = day_name(day)
    text = f"the report of {name} could have been final {hours:.0f} h of the stream ago, but the archive does not have"
    text += " all that telemetry had read. Does the collector run?"
    return Alert(id=f"report_overdue:{name}", alert="report_overdue", text=text)


def report_differs(day: int, differing: int) -> Alert:
    """A final report is of other events than telemetry had read."""
    name = day_name(day)
    text = f"the final report of {name} is of the archive's events; telemetry had read {differing} otherwise"
    return Alert(id=f"report_differs:{name}", alert="report_differs", text=text, lines=differing)


def availability_low(day: int, hour: int, by_status: dict[int, int], least: float) -> Alert | None:
    """Too few requests of an hour (counted from 1970 in UTC) of a day had status 200; None if enough had."""
    requests = sum(by_status.values())
    failed = requests - by_status.get(200, 0)
    if failed < _LEAST_FAILED or requests - failed >= least * requests:
        return None
    name = hour_name(hour)
    statuses = ", ".join(f"{count} with {status}" for status, count in sorted(by_status.items()) if status != 200)
    return Alert(
        id=f"availability:{day_name(day)}",
        alert="availability",
        text=f"{name}: {1 - failed / requests:.2%} of {requests} requests were answered, at least {least:.2%} should"
        f" be; {statuses}",
        hour=name,
        stream_time=hour * HOUR_MS,
        lines=failed,
        of=requests,
        share=failed / requests,
        threshold=1 - least,
    )


def below_baseline(report: DayReport) -> Alert | None:
    """The lists of a day do worse than the popular list would have, beyond noise; None if they do not.

    A report is written anew each hour, and a model as good as the baseline would fall below it by chance in one of
    these looks on 14 days of 100. It is judged from when half of its answers are closed, which makes that 7.
    """
    uplift, answers = report.total.uplift, report.total.baseline.answers
    if uplift.high is None or uplift.high >= 0 or answers < _LEAST_ANSWERS:
        return None
    if report.total.answers.closed < report.total.answers.provisional:
        return None
    text = f"{report.day}: lists hit less often than the popular list would have, uplift"
    text += f" {interval_text(uplift, '+.2f', scale=100)} points over {answers} answers"
    return Alert(id=f"below_baseline:{report.day}", alert="below_baseline", text=text, lines=answers)


def few_personal(report: DayReport) -> Alert | None:
    """Too few lists of a day were personal, by the verdict of its report; None if enough were, or it is not known."""
    check = next(check for check in report.verdict.checks if check.name == "personalised")
    if check.state != "red":
        return None
    text = (
        f"{report.day}: {check.value:.2%} of the lists were personal, at least {check.limit:.2%} should be. {check.why}"
    )
    return Alert(id=f"few_personal:{report.day}", alert="few_personal", text=text, share=check.value)
