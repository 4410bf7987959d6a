"""Metrics as text: what a parser of OpenMetrics reads is what was said."""

from typing import Any

from prometheus_client.openmetrics import parser

from eggcluster.master.admin.open_metrics import Family, render

parse: Any = parser.text_string_to_metric_families  # it has no types


def read(*families: Family) -> dict[str, dict[str, float]]:
    found = parse(render(families).decode())
    return {family.name: {f"{s.name}{s.labels}": s.value for s in family.samples} for family in found}


def test_each_kind_is_read_as_it_was_written() -> None:
    counter = Family("jobs", "counter", "Jobs that were done").add(3, worker="app#1").add(0, worker="app#2")
    gauge = Family("delay_seconds", "gauge", "How late").add(0.0625)
    info = Family("egg", "info", "The version").add(1, version="1.0")
    assert read(counter, gauge, info) == {
        "jobs": {"jobs_total{'worker': 'app#1'}": 3, "jobs_total{'worker': 'app#2'}": 0},
        "delay_seconds": {"delay_seconds{}": 0.0625},
        "egg": {"egg_info{'version': '1.0'}": 1},
    }


def test_the_buckets_of_a_histogram_are_sums_of_those_below() -> None:
    histogram = Family("took_seconds", "histogram", "Time").add_histogram((0.1, 1.0), (1, 2, 4), 5.5)
    assert read(histogram) == {
        "took_seconds": {
            "took_seconds_bucket{'le': '0.1'}": 1,
            "took_seconds_bucket{'le': '1.0'}": 3,
            "took_seconds_bucket{'le': '+Inf'}": 7,
            "took_seconds_count{}": 7,
            "took_seconds_sum{}": 5.5,
        }
    }


def test_a_label_may_hold_anything() -> None:
    text = 'a"b\\c\nd{}=, é'
    (family,) = parse(render([Family("egg", "gauge", "x").add(1, name=text)]).decode())
    assert family.samples[0].labels == {"name": text}


def test_a_family_without_samples_is_left_out() -> None:
    assert render([Family("egg", "gauge", "x")]) == b"# EOF\n"
