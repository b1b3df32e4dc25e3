"""Places for connections that have not logged in, by a clock of our own."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator

import pytest

from agent.admission import (
    MAX_PENALISED,
    MAX_WAITING,
    PATIENCE,
    PENALTY_MAX,
    Admission,
    Decision,
    Outcome,
    Penalties,
    Turn,
)

ADMIT, WAIT, REFUSE = Decision.ADMIT, Decision.WAIT, Decision.REFUSE
A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(clock: Clock) -> Admission[str]:
    """Five places, two for each source."""
    return Admission(clock, total=5, per_source=2)


def arrive(admission: Admission[str], address: str, *items: str) -> list[Decision]:
    return [admission.arrive(item, address) for item in items]


def end(admission: Admission[str], address: str, outcome: Outcome, times: int = 1, prefix: str = "x") -> None:
    """Have connections of a source come and go."""
    for number in range(times):
        assert admission.arrive(f"{prefix}{number}", address) is ADMIT
        admission.leave(f"{prefix}{number}", outcome)


# Caps and turns ----------------------------------------------------------------------------------------------------


def test_places_are_given_up_to_the_caps(small: Admission[str]) -> None:
    assert arrive(small, A, "a1", "a2", "a3") == [ADMIT, ADMIT, WAIT]
    assert arrive(small, B, "b1", "b2", "b3") == [ADMIT, ADMIT, WAIT]
    assert arrive(small, C, "c1", "c2") == [ADMIT, WAIT]
    assert (small.held, small.waiting) == (5, 3)
    assert small.poll() == Turn()


def test_the_defaults_are_100_and_16(clock: Clock) -> None:
    admission: Admission[int] = Admission(clock)
    decisions = [admission.arrive(number, f"198.51.100.{number // 20}") for number in range(140)]
    assert decisions[:20] == [ADMIT] * 16 + [WAIT] * 4
    assert decisions.count(ADMIT) == 100
    assert decisions.count(WAIT) == 40


def test_who_waits_starts_when_its_source_has_a_place(small: Admission[str]) -> None:
    arrive(small, A, "a1", "a2", "a3", "a4")
    small.leave("a2", Outcome.AUTHENTICATED)
    assert small.poll() == Turn(start=("a3",))
    assert small.poll() == Turn()
    small.leave("a1", Outcome.AUTHENTICATED)
    small.leave("a3", Outcome.AUTHENTICATED)
    assert small.poll() == Turn(start=("a4",))
    small.leave("a4", Outcome.AUTHENTICATED)
    assert (small.held, small.waiting, small.next_deadline()) == (0, 0, None)


def test_a_newcomer_does_not_pass_its_own_queue(small: Admission[str]) -> None:
    arrive(small, A, "a1", "a2", "a3")
    small.leave("a1", Outcome.AUTHENTICATED)
    assert arrive(small, A, "a4") == [WAIT]
    assert small.poll().start == ("a3",)


def test_sources_take_turns(clock: Clock) -> None:
    admission: Admission[str] = Admission(clock, total=3, per_source=3)
    arrive(admission, "192.0.2.9", "x", "y", "z")
    arrive(admission, A, "a1", "a2", "a3")
    arrive(admission, B, "b1", "b2")
    arrive(admission, C, "c1")
    order: list[str] = []
    for gone in ["x", "y", "z", "a1", "b1", "c1"]:
        admission.leave(gone, Outcome.AUTHENTICATED)
        order += admission.poll().start
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_source_at_its_cap_is_passed_over(small: Admission[str]) -> None:
    arrive(small, A, "a1", "a2", "a3")
    arrive(small, B, "b1", "b2")
    arrive(small, C, "c1", "c2")  # c2 waits for a place, a3 for one of A's
    small.leave("b1", Outcome.AUTHENTICATED)
    assert small.poll().start == ("c2",)
    small.leave("b2", Outcome.AUTHENTICATED)
    assert small.poll().start == ()
    small.leave("a1", Outcome.AUTHENTICATED)
    assert small.poll().start == ("a3",)


def test_a_fan_out_of_2000_from_one_source_is_served_whole(clock: Clock) -> None:
    admission: Admission[int] = Admission(clock)
    decisions = [admission.arrive(number, A) for number in range(2000)]
    assert REFUSE not in decisions
    running = [number for number, decision in enumerate(decisions) if decision is ADMIT]
    served = 0
    while running:
        clock.now += 0.01  # 20 s in all, each login well within another's patience
        admission.leave(running.pop(0), Outcome.AUTHENTICATED)
        served += 1
        turn = admission.poll()
        assert turn.close == turn.evict == ()
        running += turn.start
    assert served == 2000


# Patience ----------------------------------------------------------------------------------------------------------


def test_a_silent_flood_loses_what_waits_after_a_second(small: Admission[str], clock: Clock) -> None:
    arrive(small, A, "a1", "a2", "a3")
    clock.now += 0.5
    arrive(small, A, "a4")
    assert small.next_deadline() == 1001.0
    clock.now = 1000.999
    assert small.poll() == Turn()
    clock.now = 1001.0
    assert small.poll() == Turn(close=("a3",))
    assert small.next_deadline() == 1001.5
    clock.now = 1002.0
    assert small.poll() == Turn(close=("a4",))
    assert (small.held, small.waiting, small.next_deadline()) == (2, 0, None)
    assert arrive(small, B, "b1") == [ADMIT]


def test_a_login_of_the_same_source_renews_the_patience(small: Admission[str], clock: Clock) -> None:
    arrive(small, A, "a1", "a2", "a3", "a4")
    arrive(small, B, "b1", "b2", "b3")
    clock.now += 0.75
    small.leave("a1", Outcome.AUTHENTICATED)
    assert small.poll().start == ("a3",)
    clock.now = 1001.0
    turn = small.poll()
    assert turn.close == ("b3",)
    assert small.next_deadline() == 1001.75
    clock.now = 1001.75
    assert small.poll().close == ("a4",)


def test_patience_is_looked_at_no_more_than_20_times_a_second(clock: Clock) -> None:
    """Else a flood from thousands of sources would make each arrival a walk past all of them."""
    admission: Admission[int] = Admission(clock, total=1)
    for number in range(10):
        admission.arrive(number, f"198.51.100.{number}")
        clock.now += 1 / 64
    clock.now = 1001 + 1 / 64
    assert admission.poll().close == (1,)
    clock.now += 1 / 64
    assert admission.poll().close == ()
    assert admission.next_deadline() == 1001 + 1 / 64 + 0.05
    clock.now += 0.05
    assert admission.poll().close == (2, 3, 4, 5)


def test_a_failed_login_does_not_renew_it(small: Admission[str], clock: Clock) -> None:
    arrive(small, A, "a1", "a2", "a3", "a4")
    clock.now += 0.75
    small.leave("a1", Outcome.NO_AUTH)
    assert small.poll().start == ("a3",)
    assert small.next_deadline() == 1000.0 + PATIENCE


# The waiting room --------------------------------------------------------------------------------------------------


def fill_the_room(admission: Admission[str], address: str = A) -> None:
    places = 2 if address == A else 0
    arrive(admission, address, *(f"{address}-{number}" for number in range(places + MAX_WAITING)))
    assert admission.waiting == MAX_WAITING


def test_a_full_room_refuses_the_source_that_fills_it(small: Admission[str]) -> None:
    fill_the_room(small)
    assert arrive(small, A, "late") == [REFUSE]
    assert small.waiting == MAX_WAITING
    assert small.poll() == Turn()


def test_a_full_room_makes_way_for_another_source(small: Admission[str]) -> None:
    arrive(small, B, "b1", "b2")
    fill_the_room(small)
    assert arrive(small, B, "b3") == [WAIT]
    assert small.waiting == MAX_WAITING
    assert small.poll() == Turn(close=(f"{A}-{MAX_WAITING + 1}",))  # the last comer
    small.leave("b1", Outcome.AUTHENTICATED)
    assert small.poll().start == ("b3",)


def test_a_full_room_of_single_waiters_refuses(clock: Clock) -> None:
    admission: Admission[str] = Admission(clock, total=1)
    arrive(admission, A, "holder")
    base = ipaddress.IPv4Address("10.0.0.0")
    for number in range(MAX_WAITING):
        assert admission.arrive(str(number), str(base + number)) is WAIT
    assert admission.arrive("late", B) is REFUSE
    assert admission.waiting == MAX_WAITING


# Eviction ----------------------------------------------------------------------------------------------------------


def test_an_old_place_is_taken_back_when_all_are_taken(small: Admission[str], clock: Clock) -> None:
    """Silence from many sources must not shut everybody out until the login deadline."""
    for number, item in enumerate(["s0", "s1", "s2", "s3", "s4"]):
        arrive(small, f"198.51.100.{number}", item)
        clock.now += 0.125
    arrive(small, A, "a1", "a2")
    assert small.poll() == Turn()
    assert small.next_deadline() == 1001.0
    clock.now = 1001.0
    assert small.poll() == Turn(evict=("s0",))  # one, since one source waits
    assert small.poll() == Turn()
    assert small.next_deadline() == 1001.125  # when the next place is old
    small.leave("s0", Outcome.NO_AUTH)
    assert small.poll() == Turn(start=("a1",))
    clock.now = 1001.125
    assert small.poll() == Turn(evict=("s1",))


def test_silence_from_50_sources_does_not_keep_a_login_out(clock: Clock) -> None:
    admission: Admission[str] = Admission(clock)
    for source in range(50):
        arrive(admission, f"198.51.100.{source}", *(f"{source}-{number}" for number in range(16)))
    assert admission.held == 100
    clock.now += 0.01
    assert arrive(admission, A, "login") == [WAIT]
    started: list[str] = []
    while "login" not in started:
        deadline = admission.next_deadline()
        assert deadline is not None
        clock.now = max(clock.now, deadline)
        turn = admission.poll()
        assert "login" not in turn.close
        for item in turn.evict:
            admission.leave(item, Outcome.NO_AUTH)
        started += [*turn.start, *admission.poll().start]
    assert clock.now <= 1000.01 + PATIENCE


def test_every_waiting_source_gets_one(small: Admission[str], clock: Clock) -> None:
    for number, item in enumerate(["s0", "s1", "s2", "s3", "s4"]):
        arrive(small, f"198.51.100.{number}", item)
    clock.now += 0.9
    arrive(small, A, "a1")
    arrive(small, B, "b1")
    clock.now += 0.1
    assert small.poll() == Turn(evict=("s0", "s1"))


def test_nobody_is_evicted_for_a_source_at_its_own_cap(small: Admission[str], clock: Clock) -> None:
    arrive(small, A, "a1", "a2")
    arrive(small, B, "b1", "b2")
    arrive(small, C, "c1")
    clock.now += 0.9
    arrive(small, A, "a3")
    clock.now += 0.5
    assert small.poll() == Turn()
    assert small.next_deadline() == clock.now + 0.05  # it may be below its cap by then


def test_nobody_is_evicted_while_places_are_free(small: Admission[str], clock: Clock) -> None:
    arrive(small, A, "a1", "a2")
    clock.now += 5
    arrive(small, A, "a3")
    assert small.poll() == Turn()


def test_eviction_ends_when_all_old_ones_are_on_their_way(clock: Clock) -> None:
    admission: Admission[str] = Admission(clock, total=1)
    arrive(admission, A, "a1")
    clock.now += 0.9
    arrive(admission, B, "b1")
    arrive(admission, C, "c1")
    clock.now += 0.1
    assert admission.poll() == Turn(evict=("a1",))
    assert admission.poll() == Turn()
    assert admission.next_deadline() == 1001.9


# Penalties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "times", "seconds"),
    [(Outcome.AUTH_FAILED, 3, 15), (Outcome.NO_AUTH, 15, 15), (Outcome.GRACE, 2, 20), (Outcome.CRASH, 1, 90)],
)
def test_each_bad_end_adds_up_until_the_source_is_shut_out(
    small: Admission[str], clock: Clock, outcome: Outcome, times: int, seconds: float
) -> None:
    end(small, A, outcome, times)
    assert arrive(small, A, "a1") == [REFUSE]
    assert arrive(small, B, "b1") == [ADMIT]
    clock.now += seconds - 0.01
    assert arrive(small, A, "a1") == [REFUSE]  # enforced to the end, also below the minimum
    clock.now += 0.01
    assert arrive(small, A, "a1") == [ADMIT]


@pytest.mark.parametrize(("outcome", "times"), [(Outcome.AUTH_FAILED, 2), (Outcome.NO_AUTH, 14), (Outcome.GRACE, 1)])
def test_below_the_minimum_nothing_is_enforced(small: Admission[str], outcome: Outcome, times: int) -> None:
    end(small, A, outcome, times)
    assert arrive(small, A, "a1") == [ADMIT]


@pytest.mark.parametrize("outcome", [Outcome.AUTHENTICATED, Outcome.ABANDONED])
def test_good_ends_add_nothing(clock: Clock, outcome: Outcome) -> None:
    penalties = Penalties(clock)
    end(Admission(clock, penalties=penalties), A, outcome, 100)
    assert len(penalties) == 0


def test_what_is_accrued_shrinks_as_time_passes(small: Admission[str], clock: Clock) -> None:
    end(small, A, Outcome.GRACE)
    clock.now += 6  # 4 left
    end(small, A, Outcome.AUTH_FAILED, 2)  # 14
    assert arrive(small, A, "a1") == [ADMIT]
    clock.now += 100  # all forgotten
    small.leave("a1", Outcome.AUTH_FAILED)
    end(small, A, Outcome.AUTH_FAILED)
    assert arrive(small, A, "a2") == [ADMIT]


def test_a_penalty_has_a_longest(clock: Clock) -> None:
    penalties = Penalties(clock)
    for _ in range(100):
        penalties.add(A, 90)
    clock.now += PENALTY_MAX - 0.01
    assert penalties.enforced(A)
    clock.now += 0.01
    assert not penalties.enforced(A)


def test_who_waits_is_closed_when_its_source_is_shut_out(small: Admission[str]) -> None:
    arrive(small, A, "a1", "a2", "a3", "a4")
    small.leave("a1", Outcome.CRASH)
    assert small.poll() == Turn(close=("a3", "a4"))
    assert small.waiting == 0


def test_an_ipv6_source_is_its_64_and_a_mapped_address_is_ipv4(small: Admission[str]) -> None:
    end(small, "2001:db8:0:1::1", Outcome.CRASH)
    assert arrive(small, "2001:db8:0:1:ffff::2", "x") == [REFUSE]
    assert arrive(small, "2001:db8:0:2::1", "y") == [ADMIT]
    end(small, A, Outcome.CRASH)
    assert arrive(small, f"::ffff:{A}", "z") == [REFUSE]
    assert arrive(small, "fe80::1%eth0", "f1") == [ADMIT]
    assert arrive(small, "fe80::2%eth1", "f2", "f3") == [ADMIT, WAIT]


def test_an_exempt_source_gets_no_penalty_but_counts(clock: Clock) -> None:
    exempt = [ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1")]
    admission: Admission[str] = Admission(clock, total=5, per_source=2, exempt=exempt)
    for address in ("127.0.0.1", "127.9.9.9", "::1"):
        end(admission, address, Outcome.CRASH, 3)
        assert arrive(admission, address, address) == [ADMIT]
    assert arrive(admission, "127.0.0.1", "two", "three") == [ADMIT, WAIT]
    # A neighbour in the /64 of ::1 is not exempt, and what it does is not laid at the door of ::1.
    admission.leave("two", Outcome.AUTHENTICATED)
    end(admission, "::2", Outcome.CRASH)
    assert arrive(admission, "::2", "neighbour") == [REFUSE]
    assert arrive(admission, "::1", "again") == [ADMIT]


def sources() -> Iterator[str]:
    base = ipaddress.IPv4Address("10.0.0.0")
    return (str(base + number) for number in itertools.count())


def test_the_penalty_table_is_bounded_and_gives_way(clock: Clock) -> None:
    penalties = Penalties(clock)
    names = sources()
    for name in itertools.islice(names, MAX_PENALISED):
        penalties.add(name, 100)
    clock.now += 1
    assert len(penalties) == MAX_PENALISED
    penalties.add("10.0.0.9", 100)  # known: nobody has to go
    assert len(penalties) == MAX_PENALISED
    penalties.add("newcomer", 15)
    assert len(penalties) == MAX_PENALISED - MAX_PENALISED // 16 + 1
    assert penalties.enforced("newcomer")
    assert not penalties.enforced("10.0.0.0")  # would have ended first
    assert penalties.enforced("10.0.0.9")


def test_what_is_over_goes_first(clock: Clock) -> None:
    penalties = Penalties(clock, limit=3)
    for name, seconds in ((A, 20), (B, 20), (C, 500)):
        penalties.add(name, seconds)
    clock.now += 20
    penalties.add("newcomer", 90)
    assert len(penalties) == 2
    assert penalties.enforced(C)
