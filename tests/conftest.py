"""Shared fixtures: seeded random numbers, markers, and no test leaves global state behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Ctrl-C means in the programs that tests start what it means in a terminal; a script's job in the
# background ignores it, and so would they.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

JIT_DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    wide = "also what is marked long or browser, and compile for the cases marked wide"
    parser.addoption("--wide", action="store_true", help=wide)
    rewrite = "write tests/flow/golden anew from what is drawn now"
    parser.addoption("--rewrite-golden", action="store_true", help=rewrite)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--wide"):  # for what is decided on import
        os.environ["MINIGRAD_TESTS_WIDE"] = "1"


# Of these, each n-th case runs without --wide, of 0 none, and with it twice as many, at most every
# second: nearly every case compiles kernels of its own, a second each. "file.py" and a folder
# mean their compiled cases, which run on the tape too; "file.py::test" all of a test's. Without
# JIT, in the loops that the compiler writes, all run; compiled, all of conformance do where
# tools/faults.py plants none.
THINNED = {
    "conformance": 144,
    "test_zoo.py": 24,
    "test_cells.py": 36,
    "test_cells_fused.py::test_fused_equals_tape_in_float32": 0,
    "test_layer_modes.py": 14,
    "test_layer_modes.py::test_fused_equals_tape": 15,
    "test_zoo_layers.py::test_cells_stack_in_layers_and_directions": 14,
    "test_zoo_layers.py::test_padding_of_layers_is_not_read": 8,
    "test_cli_explain.py::test_every_cell_is_explained": 7,
    "test_module.py::test_tied_weights_stay_tied_in_training_copies_and_dtypes": 0,
    "test_parallel.py::test_ctrl_c_during_a_long_scan_leaves_a_usable_process": 2,
    "test_seq2seq.py::test_both_modes_give_the_same_logits_and_gradients": 9,
    "test_seq2seq.py::test_padding_of_the_memory_gets_no_attention_and_changes_nothing": 0,
    "test_ctc.py::test_loss_and_gradient_are_torchs_to_1e_8": 12,
    "test_truths.py::test_random_networks_turn_chaotic_at_g_1": 4,
    "test_truths.py::test_gradients_decay_at_the_rate_of_the_largest_lyapunov_exponent": 0,
    "test_matmul.py::test_the_tiles_of_other_cpus_give_the_same_bits": 3,
    "test_matmul.py::test_products_for_older_cpus_are_right": 0,
    "test_padding.py::test_padding_changes_neither_outputs_nor_gradients": 3,
    "test_padding.py::test_each_row_equals_itself_alone": 3,
    "test_jacobian.py::test_jacobians_are_those_of_finite_differences": 12,
    "test_trial.py::test_every_cell_fits_every_kind_of_task": 4,
    "test_replay.py::test_terms_by_step_and_by_lag_add_up_to_the_gradient_of_every_weight": 6,
    "test_pure.py::test_a_cell_of_nn_is_traced_twice_and_then_no_more": 3,
    "test_build_survival.py::test_ctrl_c_while_the_first_kernel_is_built_leaves_a_process_that_builds": 8,  # noqa: E501
    "test_build_survival.py::test_a_fork_while_another_thread_builds_gives_a_child_that_builds": 0,
    "test_build_survival.py::test_ctrl_c_at_any_moment_leaves_a_process_that_builds": 0,
    "test_onnx.py::test_onnxruntime_computes_what_minigrad_does": 3,
    "test_probes.py::test_norms_are_those_of_finite_differences": 3,
    "test_program_drawing.py::test_every_value_of_the_traced_step_has_its_counterpart_where_it_runs": 3,  # noqa: E501
    "test_parts.py::test_cells_are_compared_at_nearly_the_same_number_of_parameters": 2,
    "test_cli_experiment.py::test_the_stored_result_can_be_drawn_again": 4,
    "test_matmul.py::test_the_tiles_of_older_cpus_give_the_same_bits": 0,
    "test_comparison.py::test_training_lowers_the_bits_on_text_that_was_held_out": 0,
    "test_truths.py::test_copying_without_memory_costs_10_ln_8_over_t_plus_20": 0,
    "test_cells_fused.py::test_second_derivatives_against_differences_of_gradients": 0,
    "test_recorded_modes.py::test_the_comparison_finds_the_same_in_every_mode": 0,
    "test_side_by_side.py::test_both_directions_at_once_give_the_same_bits": 4,
    "test_padding.py::test_episodes_of_a_layer_equal_episodes_run_one_by_one": 3,
    "test_recurrent.py::test_gradients_through_layers_directions_and_lengths": 3,
    "test_padding.py::test_real_steps_wherever_they_are_equal_themselves_alone": 0,
    "test_saving.py::test_what_is_loaded_says_and_shows_what_was_saved": 7,
    "test_explorer_anything.py::test_gradients_of_every_kind_have_a_page": 3,
}  # fmt: skip
# Of all cases of a file, whichever their test, every n-th runs compiled, with --wide the one behind
# it, too; all of them run without JIT, and compiled with MINIGRAD_TESTS_ALL_COMPILED=1.
FILES = {
    "test_advice.py": 6,
    "test_build_survival.py": 2,
    "test_calls.py": 3,
    "test_causes.py": 20,
    "test_checkpoint.py": 16,
    "test_comparison.py": 2,
    "test_compiler.py": 2,
    "test_coverage.py": 3,
    "test_credit.py": 40,
    "test_ctc.py": 4,
    "test_curvature.py": 40,
    "test_cut.py": 8,
    "test_cuts.py": 8,
    "test_designed.py": 64,
    "test_every_layer.py": 64,
    "test_finite_time.py": 3,
    "test_fixed_points.py": 3,
    "test_fused.py": 3,
    "test_given.py": 6,
    "test_intervene.py": 64,
    "test_intervene_where.py": 16,
    "test_jit_ops.py": 12,
    "test_keras_import.py": 12,
    "test_labelled.py": 8,
    "test_large_steps.py": 3,
    "test_lyapunov.py": 2,
    "test_names_people_type.py": 54,
    "test_nested.py": 3,
    "test_one_profile.py": 3,
    "test_onnx_files.py": 32,
    "test_onnx_out.py": 80,
    "test_own_ops.py": 2,
    "test_pairs.py": 8,
    "test_plots.py": 2,
    "test_prepared.py": 6,
    "test_probes.py": 8,
    "test_probabilities.py": 10,
    "test_program.py": 2,
    "test_program_drawing.py": 2,
    "test_pure.py": 2,
    "test_ragged.py": 28,
    "test_record.py": 4,
    "test_recorded_modes.py": 8,
    "test_recurrent_dropout.py": 64,
    "test_regressions.py": 2,
    "test_remedies.py": 32,
    "test_replay.py": 10,
    "test_rows_alone.py": 8,
    "test_scan.py": 2,
    "test_sensitivities.py": 4,
    "test_states.py": 64,
    "test_side_by_side.py": 3,
    "test_streaming.py": 3,
    "test_traced_anew.py": 3,
    "test_truths.py": 2,
    "test_units.py": 16,
    "test_unrolled.py": 4,
    "test_ways.py": 8,
    "test_whole_recordings.py": 10,
    "test_writers.py": 4,
}
ALL = "MINIGRAD_TESTS_ALL_COMPILED" in os.environ  # tools/faults.py wants them all


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        if "driver" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        key = thinned(item)
        if key and not ALL and "wide" not in item.keywords:
            each, count = (THINNED | FILES)[key], seen[item.path, key]
            seen[item.path, key] += 1
            if not each or count % each:
                also = count % each == 1 if key in FILES else count % max(each // 2, 2) == 0
                item.add_marker("wide" if also else "rare")
    if JIT_DISABLED:
        skip = pytest.mark.skip(reason="checks compiled code; NUMBA_DISABLE_JIT=1")
        for item in items:
            if "needs_jit" in item.keywords:
                item.add_marker(skip)
    if "MINIGRAD_TESTS_WIDE" not in os.environ:
        left_out = {item for item in items if is_left_out(item)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    # First, or one worker ends them while the others have nothing left.
    items.sort(key=lambda item: "long" not in item.keywords)


def thinned(item: pytest.Item) -> str | None:
    """The key in THINNED that means this case, if one does."""
    test = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
    if test in THINNED:
        return None if mode_of(item) == "tape" else test
    if item.path.name in FILES:
        return None if mode_of(item) == "tape" else item.path.name
    if mode_of(item) != "fused":
        return None
    return next((part for part in item.path.parts if part in THINNED), None)


def is_left_out(item: pytest.Item) -> bool:
    """Whether only --wide runs it: what is long, pages, and what would compile a case more; without
    JIT the tape, which takes as long there as the loops that are to be seen.
    """
    if "long" in item.keywords or "browser" in item.keywords:
        return True
    if JIT_DISABLED and mode_of(item) == "tape":
        return True
    if "rare" in item.keywords:
        return not JIT_DISABLED
    compiles = mode_of(item) == "fused" or thinned(item)
    return "wide" in item.keywords and bool(compiles) and not JIT_DISABLED


def mode_of(item: pytest.Item) -> str | None:
    """The mode that a case runs in, where its test runs in each; see tests/modes.py."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("mode") if callspec is not None else None


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded from the test's name: the same numbers on every run, others in every test."""
    return np.random.default_rng(seed_of(request))


def seed_of(request: pytest.FixtureRequest) -> int:
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Nor do weights, masks and orders that a test leaves to chance change from run to run."""
    if random := sys.modules.get("minigrad.random"):
        random.seed(seed_of(request))


@pytest.fixture
def jit_disabled() -> bool:
    """Whether kernels are run by Python, and ops by NumPy."""
    return JIT_DISABLED


SWITCHES = ("mode", "recording", "anomaly", "scope", "tape", "listeners", "intervening", "jit")


def global_state() -> dict[str, Any]:
    """Everything a test could leave switched on. What is not imported yet is not switched on."""
    found: dict[str, Any] = {"np.errstate": np.geterr()}
    if tape := sys.modules.get("minigrad.tape"):
        found |= {name: getattr(tape.state, name) for name in SWITCHES}
    if threads := sys.modules.get("minigrad.kernels.threads"):
        found["num_threads"] = threads.get_num_threads()
    if op := sys.modules.get("minigrad.op"):
        found["registered ops"] = set(op.REGISTRY)
    return found


def restore(before: dict[str, Any]) -> None:
    np.seterr(**before["np.errstate"])
    for name in SWITCHES:
        if name in before:
            setattr(sys.modules["minigrad.tape"].state, name, before[name])
    if "num_threads" in before:
        sys.modules["minigrad.kernels.threads"].set_num_threads(before["num_threads"])
    if "registered ops" in before:
        registry = sys.modules["minigrad.op"].REGISTRY
        for name in set(registry) - before["registered ops"]:
            del registry[name]


@pytest.fixture(autouse=True)
def no_leaked_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a tape, a scope, no_grad or another switch behind."""
    # Numba's objects, a million of them, stay: every gc.collect() would look at them for 0.2 s.
    gc.freeze()
    before = global_state()
    yield
    after = global_state()
    leaked = [name for name in before if before[name] != after[name]]
    if leaked:
        restore(before)  # so that only the culprit fails
        changes = ", ".join(f"{name}: {before[name]!r} -> {after[name]!r}" for name in leaked)
        pytest.fail(f"{request.node.name} left global state changed: {changes}", pytrace=False)
