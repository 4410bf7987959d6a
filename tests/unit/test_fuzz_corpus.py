"""The fuzz target's corpus, and two seconds of mutations: the same ones each time."""

import asyncio
import logging

import pytest

from tests.fuzz import fuzz_frames, make_corpus


def test_nothing_but_frame_error_comes_of_the_corpus_and_its_mutations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "eggcluster")
    assert asyncio.run(fuzz_frames.run_for(2, seed=2026)) > len(make_corpus.SEEDS)


def test_the_corpus_is_what_its_script_writes() -> None:
    assert {path.stem: path.read_bytes() for path in fuzz_frames.CORPUS.glob("*.bin")} == make_corpus.SEEDS
