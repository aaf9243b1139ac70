"""What people and peers do wrong: each mistake has a reason word of its own, and a test of it.

The tests stand beside the parts that refuse; this table says which, and that they are still there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.reasons import REASONS

TESTS = Path(__file__).parent

PLAN = "federation/test_plan.py"
STORE = "federation/runtime/test_store.py"
STARTING = "system/test_starting.py"
LOST_PEERS = "system/test_lost_peers.py"
REPORTS = "selector/test_service_reports.py"
REJECTED = f"{REPORTS}::test_update_that_breaks_a_rule_is_rejected_with_its_reason"
UNVERIFIED = f"{REPORTS}::test_bytes_that_fail_verification_leave_the_claim_unspent"
CHECK_IN = "selector/test_service.py::test_check_in_that_breaks_the_contract_is_refused"
NO_MODEL = "federation/runtime/test_initialise.py::test_what_is_no_keras_model_is_refused"
SETTINGS_FILE = (
    "federation/runtime/test_settings.py::test_file_is_wrong_the_reason_says_in_which_way"
)

MISTAKES: dict[str, tuple[str, str]] = {
    # An update
    "wrong shape": ("wrong-shape", REJECTED),
    "missing tensor": ("missing-tensor", REJECTED),
    "extra tensor": ("extra-tensor", REJECTED),
    "wrong dtype": ("wrong-dtype", REJECTED),
    "NaN": ("not-finite", REJECTED),
    "infinity": ("not-finite", REJECTED),
    "norm too large": (
        "norm-too-large",
        f"{REPORTS}::test_update_that_moved_too_far_is_rejected",
    ),
    "weight 0": ("weight-not-positive", REJECTED),
    "weight negative": ("weight-not-positive", REJECTED),
    "weight too large": ("weight-too-large", REJECTED),
    "bytes that are no tensors": (
        "malformed-tensors",
        f"{REPORTS}::test_bytes_that_are_no_tensors_are_rejected",
    ),
    # Its way
    "truncated stream": ("truncated", UNVERIFIED),
    "wrong digest": ("wrong-digest", UNVERIFIED),
    "chunk out of order": ("chunk-out-of-order", UNVERIFIED),
    "more bytes than declared": ("more-bytes-than-declared", UNVERIFIED),
    "declared size over the limit": (
        "update-too-large",
        f"{REPORTS}::test_size_that_cannot_be_is_refused_before_the_bytes",
    ),
    "report of a round that is over": (
        "round-over",
        f"{REPORTS}::test_report_after_the_round_is_not_wanted",
    ),
    "without a token": ("unknown-token", f"{REPORTS}::test_token_of_nobody_opens_nothing"),
    "with the token of another selector's client": (
        "unknown-token",
        f"{REPORTS}::test_token_of_another_process_of_the_selector_opens_nothing",
    ),
    "with another client's token": (
        "foreign-token",
        f"{REPORTS}::test_token_of_another_client_opens_nothing",
    ),
    "second report of one client": (
        "repeated",
        f"{REPORTS}::test_other_report_after_the_first_was_judged_is_discarded_as_repeated",
    ),
    "unknown artifact": (
        "unknown-artifact",
        "selector/test_service.py::test_unknown_artifact_is_not_found",
    ),
    "another protocol version": ("protocol-mismatch", CHECK_IN),
    "malformed client id": ("malformed-client-id", CHECK_IN),
    # The operator's
    "model.h5 is not HDF5": ("not-hdf5", NO_MODEL),
    "model.h5 has external links": ("hdf5-forbidden-link", NO_MODEL),
    "model.h5 declares gigabytes": ("hdf5-too-large", NO_MODEL),
    "model.h5 is no whole model": ("not-a-model", NO_MODEL),
    "shared directory missing, empty or foreign": (
        "shared-directory-unusable",
        f"{STORE}::test_a_directory_that_cannot_be_used_is_refused_with_what_to_do",
    ),
    "port in use": (
        "port-in-use",
        f"{STARTING}::test_port_is_in_use_the_server_says_so",
    ),
    "unknown setting": ("unknown-setting", SETTINGS_FILE),
    "wrong value of a setting": ("wrong-setting", SETTINGS_FILE),
    "settings file that cannot be read": ("settings-unreadable", SETTINGS_FILE),
    "min_reports above goal_count": (
        "impossible-plan",
        "federation/test_plan.py::test_plan_is_impossible_it_is_refused_by_the_name_of_its_field",
    ),
    "selector id ../x": (
        "malformed-selector-id",
        "selector/test_settings.py::test_id_is_given_and_malformed_it_is_refused",
    ),
    "two selectors with one id": (
        "superseded",
        "system/test_lost_peers.py::test_second_process_with_a_selector_id_starts_the_older_ends",
    ),
    "TensorFlow missing": (
        "tensorflow-missing",
        f"{STARTING}::test_tensorflow_is_missing_for_data_the_client_says_how_to_install_it",
    ),
    "trainer module that does not import or raises": (
        "trainer-import-failed",
        "client/test_trainer.py::test_trainer_that_cannot_be_made_is_a_wrong_setting",
    ),
    "trainer that raises in a round": (
        "trainer-failed",
        "client/test_session.py::test_trainer_that_raises_withdraws",
    ),
}
"""By what is done wrong: the reason word, and the test of it."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_made_a_test_says_what_happens(mistake: str) -> None:
    """The word is documented, and a test by that name speaks of it."""
    reason, test = MISTAKES[mistake]
    file, _, name = test.partition("::")
    source = (TESTS / file).read_text()

    assert reason in REASONS
    assert f"def {name}(" in source
    assert f'"{reason}"' in source or f"{reason})" in source
