"""A few threads: order, pieces, and exceptions that are raised where the work was asked for."""

import threading

import pytest

from ase_srdft.parallel.thread_map import ThreadMap

NTHREADS = [1, 2, 3]


@pytest.mark.parametrize("nthreads", NTHREADS)
def test_results_keep_their_order(nthreads):
    assert ThreadMap(nthreads).map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
    assert ThreadMap(nthreads).map(lambda x: x, []) == []


def test_the_dearest_items_are_begun_first_and_results_keep_their_order():
    threads, begun = ThreadMap(2), []
    both = threading.Barrier(2)

    def work(item):
        if len(begun) < 2:
            begun.append(item)
            both.wait(timeout=60)  # the first two are on a thread each
        return -item

    costs = [1.0, 5.0, 2.0, 7.0, 5.0]
    assert threads.map(work, range(5), costs) == [0, -1, -2, -3, -4]
    assert sorted(begun) == [1, 3]
    assert ThreadMap(1).map(work, range(5), costs) == [0, -1, -2, -3, -4]


@pytest.mark.parametrize("nthreads", [2, 3])
def test_items_are_worked_on_at_the_same_time(nthreads):
    meeting = threading.Barrier(nthreads)

    def wait_for_the_others(item):
        meeting.wait(timeout=60)
        return threading.get_ident()

    threads = ThreadMap(nthreads).map(wait_for_the_others, range(nthreads))
    assert len(set(threads)) == nthreads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(("nthreads", "nitems"), [(1, 5), (4, 1)])
def test_one_thread_or_one_item_stays_on_the_calling_thread(nthreads, nitems):
    threads = ThreadMap(nthreads).map(lambda _: threading.get_ident(), range(nitems))
    assert threads == [threading.get_ident()] * nitems


@pytest.mark.parametrize("nthreads", NTHREADS)
def test_exceptions_reach_the_caller(nthreads):
    threads = ThreadMap(nthreads)

    def fail_on_two(item):
        if item == 2:
            raise ZeroDivisionError(f"item {item}")
        return item

    with pytest.raises(ZeroDivisionError, match="item 2"):
        threads.map(fail_on_two, range(5))
    assert threads.map(fail_on_two, [0, 1]) == [0, 1]  # and the threads go on


@pytest.mark.parametrize("nthreads", NTHREADS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8])
def test_slices_cover_everything_once_and_nearly_evenly(nthreads, length):
    slices = ThreadMap(nthreads).slices(length)
    items = list(range(length))
    assert [item for piece in slices for item in items[piece]] == items
    sizes = [piece.stop - piece.start for piece in slices]
    assert len(slices) == min(nthreads, length)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("nthreads", "npieces", "expected"), [(1, 1, 1), (1, 3, 1), (4, 1, 4), (4, 2, 2), (4, 3, 1)]
)
def test_threads_that_pieces_leave_are_shared_among_them(nthreads, npieces, expected):
    assert ThreadMap(nthreads).share(npieces) == expected


def test_no_pieces_leave_all_threads():
    assert ThreadMap(4).share(0) == 4


@pytest.mark.parametrize(
    ("nthreads", "length", "largest", "sizes"),
    [
        (1, 5, None, [5]),
        (1, 5, 2, [1, 2, 2]),
        (2, 4, 1, [1, 1, 1, 1]),
        (3, 4, 9, [1, 1, 2]),
        (2, 0, 1, [0]),
    ],
)
def test_no_slice_is_larger_than_may_be(nthreads, length, largest, sizes):
    slices = ThreadMap(nthreads).slices(length, largest)
    assert [piece.stop - piece.start for piece in slices] == sizes
    assert [i for piece in slices for i in range(piece.start, piece.stop)] == list(range(length))
