"""Which samples of a page of metrics belong to a symptom."""

from tests.faults.symptoms import Symptom

PAGE = """\
# HELP warren_edge_resyncs_total Times that sessions were registered again.
# TYPE warren_edge_resyncs_total counter
warren_edge_resyncs_total{reason="lease lost"} 2.0
warren_edge_resyncs_total{reason="queue lost"} 5.0
warren_edge_resyncs_total_created 1.7e+09
warren_store_up 0.0
"""


def test_all_samples_of_a_metric_count_where_no_label_is_named() -> None:
    assert Symptom("warren_edge_resyncs_total", "").samples(PAGE) == [2.0, 5.0]


def test_samples_with_other_labels_do_not_count() -> None:
    symptom = Symptom('warren_edge_resyncs_total{reason="lease lost"}', "")
    assert symptom.samples(PAGE) == [2.0]
    assert symptom.name == "warren_edge_resyncs_total"


def test_a_metric_without_labels_has_one_sample() -> None:
    assert Symptom("warren_store_up", "").samples(PAGE) == [0.0]
    assert Symptom("warren_store", "").samples(PAGE) == []
