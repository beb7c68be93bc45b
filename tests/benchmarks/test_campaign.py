"""``benchmarks/campaign.py``: what is done, what is not done twice, and what stops it."""

import json
import signal
import sys
import threading

import pytest

from tests.tools.campaigns import Runner, benchmark, campaign, write_labels

FIXED = {"molecule": "ethanol", "model": "fock", "nframes": 340}
SUPERVISED = FIXED | {"model": "supervised"}


def run_of(**settings):
    return benchmark("runs").Run(**settings)


def carry_out(tmp_path, runs, runner, **changes):
    code = benchmark("campaign").carry_out(campaign(tmp_path, **changes), runs, runner)
    return code, runner.done


def test_every_run_is_trained_and_then_evaluated(tmp_path):
    runs = [run_of(**FIXED), run_of(**FIXED | {"nframes": 25}, self_refine=True)]
    code, done = carry_out(tmp_path, runs, Runner())
    assert code == 0
    first, second = "ethanol-fock-340-fixed", "ethanol-fock-25-refining"
    assert done == [(name, what) for name in (first, second) for what in ("train", "evaluate")]


def test_what_is_finished_is_not_repeated(tmp_path):
    runs = [run_of(**FIXED)]
    assert carry_out(tmp_path, runs, Runner())[1] != []
    assert carry_out(tmp_path, runs, Runner()) == (0, [])


def test_an_interrupted_run_goes_on_and_a_trained_one_is_only_evaluated(tmp_path):
    runs, name = [run_of(**FIXED)], "ethanol-fock-340-fixed"
    code, done = carry_out(tmp_path, runs, Runner({(name, "train"): 75}))
    assert (code, done) == (75, [(name, "train")])
    code, done = carry_out(tmp_path, runs, Runner({(name, "evaluate"): 75}))
    assert (code, done) == (75, [(name, "train"), (name, "evaluate")])
    assert carry_out(tmp_path, runs, Runner()) == (0, [(name, "evaluate")])


def test_more_frames_to_evaluate_at_are_another_evaluation(tmp_path):
    runs = [run_of(**FIXED)]
    carry_out(tmp_path, runs, Runner())
    code, done = carry_out(tmp_path, runs, Runner(), nevaluate=10)
    assert (code, done) == (0, [("ethanol-fock-340-fixed", "evaluate")])


def test_errors_of_a_part_of_the_frames_are_no_evaluation(tmp_path):
    runs, whole = [run_of(**FIXED)], campaign(tmp_path)
    carry_out(tmp_path, runs, Runner())
    path = whole.evaluation(runs[0])
    numbers = json.loads(path.read_text())
    path.write_text(json.dumps(numbers | {"frames_asked": 60, "failed": []}))
    assert benchmark("results").results_of(whole, runs) == []
    assert carry_out(tmp_path, runs, Runner()) == (0, [("ethanol-fock-340-fixed", "evaluate")])
    assert len(benchmark("results").results_of(whole, runs)) == 1


def test_a_failed_run_does_not_stop_the_others(tmp_path, capsys):
    failing = "ethanol-fock-340-fixed"
    runs = [run_of(**FIXED), run_of(**FIXED | {"molecule": "uracil"})]
    code, done = carry_out(tmp_path, runs, Runner({(failing, "train"): 1}))
    assert code == 1
    assert done[1:] == [("uracil-fock-340-fixed", what) for what in ("train", "evaluate")]
    assert "ethanol-fock-340-fixed: train failed with exit code 1" in capsys.readouterr().err


def test_a_directory_of_other_settings_is_refused(tmp_path):
    runs = [run_of(**FIXED)]
    carry_out(tmp_path, runs, Runner())
    with pytest.raises(benchmark("runs").CampaignError, match="another minutes and seed: choose"):
        carry_out(tmp_path, runs, Runner(), minutes=20.0, seed=1)


def test_labels_are_made_once_for_all_supervised_runs_of_a_molecule(tmp_path):
    runs = [run_of(**FIXED), run_of(**SUPERVISED), run_of(**SUPERVISED | {"nframes": 25})]
    done = carry_out(tmp_path, runs, Runner())[1]
    labelled = [what for what in done if what[1].endswith("labels")]
    assert labelled == [done[0]] == [(tmp_path.name, "ethanol-labels")]
    assert carry_out(tmp_path, runs, Runner()) == (0, [])


def test_without_labels_only_the_supervised_run_is_left_out(tmp_path):
    runs = [run_of(**SUPERVISED), run_of(**FIXED)]
    code, done = carry_out(tmp_path, runs, Runner({(tmp_path.name, "ethanol-labels"): 1}))
    assert code == 1
    assert {name for name, _ in done} == {tmp_path.name, "ethanol-fock-340-fixed"}


def test_labels_may_leave_no_time_to_train(tmp_path, capsys):
    write_labels(tmp_path / "ethanol-labels.h5", [3.0] * 400)  # 340 of them take 17 minutes
    runs = [run_of(**SUPERVISED)]
    done = carry_out(tmp_path, runs, Runner(), labels_count=True)[1]
    assert done == [(tmp_path.name, "ethanol-labels")]
    assert "leave no time" in capsys.readouterr().out
    done = carry_out(tmp_path / "long", runs, Runner(), labels_count=True, minutes=20.0)[1]
    assert done[1:] == [("ethanol-supervised-340-fixed", what) for what in ("train", "evaluate")]


def test_tasks_follow_the_evaluation_and_are_not_repeated(tmp_path):
    module, runs = benchmark("campaign"), [run_of(**FIXED)]
    whole, result = campaign(tmp_path), tmp_path / "walk.json"
    task = module.Task(name="walk", command=("walk", "--json", str(result)), result=result)
    for expected in (["train", "evaluate", "walk"], []):
        runner = Runner()
        assert module.carry_out(whole, runs, runner, lambda run: [task]) == 0
        assert [what for _, what in runner.done] == expected


def test_a_command_gets_one_thread_and_its_words_are_kept(tmp_path):
    log = tmp_path / "train.log"
    program = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit(3)"
    assert benchmark("children").Children()([sys.executable, "-c", program], log) == 3
    assert log.read_text() == "1\n"


def test_a_signal_ends_what_runs_and_what_waits(tmp_path):
    children, codes = benchmark("children"), []
    running = children.Children()
    program = "import signal, sys, time; print(flush=True); time.sleep(60)"
    log = tmp_path / "train.log"

    def work():
        codes.append(running([sys.executable, "-c", program], log))
        codes.append(running([sys.executable, "-c", program], log))

    before = signal.getsignal(signal.SIGTERM)
    with running:
        thread = threading.Thread(target=work)
        thread.start()
        while not (log.is_file() and log.stat().st_size):
            thread.join(0.05)
        signal.raise_signal(signal.SIGTERM)
        thread.join(30)
    assert codes == [children.INTERRUPTED] * 2
    assert signal.getsignal(signal.SIGTERM) is before
