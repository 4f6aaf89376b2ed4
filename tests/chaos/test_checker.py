"""The checker itself: histories that are right pass, and each kind of wrong one is told by its name."""

from __future__ import annotations

import pytest

from tests.chaos import workload
from tests.chaos.checker import Checker, Committed, Kind, Violation
from tests.chaos.model import Entry, Fate, Operation, State, change_text
from tests.chaos.schedule import Schedule, generate

COMPANY = "acme"
EMPTY = State(0)


def wrote(number: int, *names: str) -> Operation:
    return Operation(number, {("k", name): number for name in names})


class Story:
    """A checker, and the state that each node and PostgreSQL are in, told in few words."""

    def __init__(self) -> None:
        self.checker = Checker({COMPANY: EMPTY})
        self.epoch = 0
        self.claimer = ""
        self.database = EMPTY

    def claim(self, app: str) -> None:
        self.epoch, self.claimer = self.epoch + 1, app
        self.checker.committed(Committed(COMPANY, "claim", app, app, self.epoch, 0, self.database.text()))

    def commit(self, state: State, app: str | None = None) -> None:
        self.database = state
        self.checker.committed(
            Committed(COMPANY, "data", app or self.claimer, self.claimer, self.epoch, 0, state.text())
        )

    def take(self, node: str) -> None:
        self.claim(f"{node}-1")
        self.checker.opened(node, COMPANY, self.database.text())

    def write(self, node: str, operation: Operation, fate: Fate = Fate.SURE) -> Entry:
        entry = self.checker.sent(node, COMPANY, operation)
        entry.fate = fate
        return entry


@pytest.fixture
def story() -> Story:
    return Story()


def apply(*operations: Operation) -> State:
    state = EMPTY
    for operation in operations:
        state = state.apply(operation)
    return state


ONE, TWO, THREE = wrote(1, "a", "b"), wrote(2, "b", "c"), wrote(3, "a")


def test_a_right_history_passes(story: Story) -> None:
    story.take("a")
    for operation in (ONE, TWO, THREE):
        story.write("a", operation)
    story.commit(apply(ONE, TWO))
    story.commit(apply(ONE, TWO, THREE))
    story.checker.read("a", COMPANY, apply(ONE, TWO, THREE).text())
    story.checker.at_its_end(COMPANY, "a", story.database.text())
    story.checker.kept(COMPANY, "a", [])


def test_a_read_of_something_older_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    with pytest.raises(Violation) as caught:
        story.checker.read("a", COMPANY, EMPTY.text())
    assert caught.value.kind is Kind.READ


def test_half_a_batch_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    with pytest.raises(Violation) as caught:
        story.commit(apply(wrote(1, "a")))
    assert caught.value.kind is Kind.PREFIX


def test_a_batch_before_its_turn_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.write("a", TWO)
    with pytest.raises(Violation) as caught:
        story.commit(apply(TWO))
    assert caught.value.kind is Kind.PREFIX


def test_postgres_never_goes_back(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.write("a", TWO)
    story.commit(apply(ONE, TWO))
    with pytest.raises(Violation):
        story.commit(apply(ONE))


def test_a_restored_copy_may_be_older_and_is_brought_forward(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.commit(apply(ONE))
    story.database = EMPTY
    story.checker.committed(Committed(COMPANY, "rewound", "rewind", "a-1", 1, 0, EMPTY.text()))
    story.commit(apply(ONE))
    story.checker.at_its_end(COMPANY, "a", story.database.text())


def test_a_write_that_got_no_answer_may_or_may_not_have_happened(story: Story) -> None:
    story.take("a")
    story.write("a", ONE, Fate.DOUBTFUL)
    story.checker.read("a", COMPANY, EMPTY.text())
    story.write("a", TWO, Fate.DOUBTFUL)
    story.checker.read("a", COMPANY, apply(TWO).text())
    with pytest.raises(Violation):
        story.checker.read("a", COMPANY, EMPTY.text())


def test_a_write_that_was_refused_must_not_be_there(story: Story) -> None:
    story.take("a")
    story.write("a", ONE, Fate.ABSENT)
    with pytest.raises(Violation):
        story.commit(apply(ONE))


def test_an_acknowledged_write_that_is_gone_after_a_restart_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.claim("a-2")
    with pytest.raises(Violation) as caught:
        story.checker.opened("a", COMPANY, EMPTY.text())
    assert caught.value.kind is Kind.LOST


def test_an_acknowledged_write_that_never_came_to_postgres_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    with pytest.raises(Violation) as caught:
        story.checker.at_its_end(COMPANY, "a", EMPTY.text())
    assert caught.value.kind is Kind.LOST


def taken_over(story: Story) -> None:
    """Node a acknowledged three writes, of which PostgreSQL had one when node b took the company over."""
    story.take("a")
    for operation in (ONE, TWO, THREE):
        story.write("a", operation)
    story.commit(apply(ONE))
    story.take("b")
    story.write("b", wrote(4, "a"))


def test_a_fenced_writer_is_found(story: Story) -> None:
    taken_over(story)
    with pytest.raises(Violation) as caught:
        story.commit(apply(ONE, TWO), app="a-1")
    assert caught.value.kind is Kind.EPOCH


def test_what_a_fenced_node_acknowledged_lies_in_its_quarantine(story: Story) -> None:
    taken_over(story)
    story.commit(apply(ONE, wrote(4, "a")))
    story.take("a")
    story.checker.kept(COMPANY, "a", [change_text([TWO, THREE])])
    # The node may not have heard that PostgreSQL had the first one.
    story.checker.kept(COMPANY, "a", [change_text([ONE, TWO, THREE])])


@pytest.mark.parametrize("kept", [[], [[THREE]], [[TWO]], [[TWO, THREE, ONE]]])
def test_a_quarantine_that_lacks_something_is_found(story: Story, kept: list[list[Operation]]) -> None:
    taken_over(story)
    story.commit(apply(ONE, wrote(4, "a")))
    story.take("a")
    with pytest.raises(Violation) as caught:
        story.checker.kept(COMPANY, "a", [change_text(operations) for operations in kept])
    assert caught.value.kind is Kind.QUARANTINE


def test_a_state_that_came_twice_is_either_of_the_two(story: Story) -> None:
    """Two deliveries that leave the same: what lies behind the later one is owed, or behind the earlier one."""
    story.take("a")
    clear = [Operation(number, cleared=True) for number in (5, 7)]
    for operation in (clear[0], wrote(6, "a"), clear[1], TWO):
        story.write("a", operation)
    story.commit(apply(clear[0]))
    story.take("b")
    story.take("a")
    story.checker.kept(COMPANY, "a", [change_text([TWO])])
    story.checker.kept(COMPANY, "a", [change_text([wrote(6, "a"), clear[1], TWO])])
    with pytest.raises(Violation):
        story.checker.kept(COMPANY, "a", [change_text([clear[1]])])


def test_a_takeover_that_reads_something_else_than_postgres_has_is_found(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.commit(apply(ONE))
    story.claim("b-1")
    with pytest.raises(Violation) as caught:
        story.checker.opened("b", COMPANY, EMPTY.text())
    assert caught.value.kind is Kind.READ


def test_a_claim_under_an_epoch_that_was_used_is_found(story: Story) -> None:
    story.take("a")
    story.epoch -= 1
    with pytest.raises(Violation) as caught:
        story.claim("b-1")
    assert caught.value.kind is Kind.EPOCH


def test_what_damage_took_from_the_only_copy_is_forgiven_and_nothing_else(story: Story) -> None:
    story.take("a")
    story.write("a", ONE)
    story.commit(apply(ONE))
    story.checker.damaged("a", COMPANY)
    story.claim("a-2")
    with pytest.raises(Violation):
        story.checker.opened("a", COMPANY, EMPTY.text())
    story.write("a", TWO)
    story.checker.damaged("a", COMPANY)
    story.checker.opened("a", COMPANY, apply(ONE).text())


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_is_one_schedule_and_its_text_is_all_of_it(seed: int) -> None:
    schedule = generate(seed)
    assert str(generate(seed)) == str(schedule)
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize("number", range(40))
def test_operations_and_values_follow_from_seed_label_and_number(number: int) -> None:
    operation = workload.operation(7, "one", number)
    assert workload.operation(7, "one", number) == operation
    for key_type, entries in workload.batch(operation.keys).items():
        for key_id, value in entries.items():
            if value is not None:
                assert workload.number_of_value(key_type, key_id, value) == number
                with pytest.raises(ValueError, match="damaged"):
                    workload.number_of_value(key_type, key_id, value.replace(b'"pad": "', b'"pad": "0', 1))


def test_a_state_and_its_text_are_one() -> None:
    state = apply(ONE, TWO, Operation(9, creds=9))
    assert State.parse(state.text()) == state
    assert State.parse(State().text()) == State()
