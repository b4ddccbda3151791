"""Outages of Kafka: each is said once, when it is one and when it is over, and a busy reader is none."""

import logging

import pytest

from stream.kafka_contact import SILENT_S, KafkaContact


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_outage_is_said_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    contact = KafkaContact("log at host:1")
    contact.polled({0: 100, 1: 100}, 60.0)
    for stamp in (201, 202, 203):  # only partition 0 is silent: it may have no leader
        contact.polled({0: 100, 1: stamp}, SILENT_S / 2)
    assert (contact.incomplete, contact.lost, contact.silent_s) == (True, False, 0.0)
    for _ in range(3):
        contact.polled({0: 100, 1: 203}, SILENT_S / 2)
    assert (contact.incomplete, contact.lost, contact.silent_s) == (True, True, 1.5 * SILENT_S)
    contact.polled({0: 300, 1: 300}, 0.5)
    assert (contact.incomplete, contact.lost, contact.silent_s) == (False, False, 0.0)
    for _ in range(4):
        contact.polled({0: 300, 1: 300}, SILENT_S / 2)
    assert said(caplog) == [
        "no answer from log at host:1 for 10 s, partitions [0]; waiting",
        "log at host:1 answers again after 10 s",
        "no answer from log at host:1 for 10 s, partitions [0, 1]; waiting",
    ]


def test_checks_without_an_answer_count_from_the_first_one() -> None:
    contact = KafkaContact("log at host:1")
    assert contact.unchecked_s == 0.0
    contact.checked(False, SILENT_S)
    contact.checked(False, 1.0)
    assert contact.unchecked_s >= SILENT_S
    contact.checked(True, 1.0)
    contact.checked(False, 0.0)
    assert contact.unchecked_s < SILENT_S


def test_answers_in_time_and_added_partitions_are_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    contact = KafkaContact("log at host:1")
    for stamp in range(10):
        contact.polled({0: stamp // 2}, SILENT_S * 0.9)
    contact.polled({0: 9, 1: None}, SILENT_S * 0.9)  # partitions are assigned anew: no answer yet
    contact.polled({0: None, 1: None}, SILENT_S * 0.9)
    assert said(caplog) == []
    contact.polled({0: 10, 1: None}, SILENT_S * 0.9)  # it has never answered
    assert len(said(caplog)) == 1
