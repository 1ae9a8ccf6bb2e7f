"""The list. A mutant changes the text of one module; the test named with it has to fail then.

`docs/testing.md` shows the same list to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

RELAY_TESTS = "tests/broadcast/test_relay.py"
BUS_TESTS = "tests/broadcast/test_groups.py"
FAULT_TESTS = "tests/broadcast/test_outages.py"
LOG_TESTS = "tests/eventlog/test_log.py"
PRUNE_TESTS = "tests/eventlog/test_retention.py"
WRITER_TESTS = "tests/eventlog/test_concurrent_writers.py"
COMMIT_TESTS = "tests/eventlog/test_before_commit.py"
PUBLISHER_TESTS = "tests/broadcast/test_publisher.py"
SOAK_TESTS = "tests/daphne_server/test_soak.py"
BACKPRESSURE_TESTS = "tests/daphne_server/test_backpressure.py"


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: What is wrong, in a few words.
        module: The file that is changed.
        old: A text that stands in it once.
        new: What stands there instead.
        caught_by: The test that must fail.
    """

    name: str
    module: str
    old: str
    new: str
    caught_by: str

    def mutated(self, text: str) -> str:
        """The text of the module with the fault in it.

        Raises:
            ValueError: if the module has changed, and what is to be replaced does not stand in it once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.module}")
        return text.replace(self.old, self.new)


def relay(name: str, old: str, new: str, caught_by: str, *, file: str = RELAY_TESTS) -> Mutant:
    return Mutant(name, "realtime/broadcast/relay.py", old, new, f"{file}::{caught_by}")


def room(name: str, old: str, new: str, caught_by: str) -> Mutant:
    return Mutant(name, "realtime/broadcast/room.py", old, new, f"{RELAY_TESTS}::{caught_by}")


def bus(name: str, old: str, new: str, caught_by: str, *, file: str = RELAY_TESTS) -> Mutant:
    return Mutant(name, "realtime/broadcast/groups.py", old, new, f"{file}::{caught_by}")


def log(name: str, old: str, new: str, caught_by: str, *, file: str = LOG_TESTS) -> Mutant:
    return Mutant(name, "realtime/eventlog/log.py", old, new, f"{file}::{caught_by}")


def publisher(name: str, old: str, new: str, caught_by: str, *, file: str = PUBLISHER_TESTS) -> Mutant:
    return Mutant(name, "realtime/broadcast/publisher.py", old, new, f"{file}::{caught_by}")


def before_commit(name: str, old: str, new: str, caught_by: str) -> Mutant:
    return Mutant(name, "orchestration/db/before_commit.py", old, new, f"{COMMIT_TESTS}::{caught_by}")


MUTANTS = [
    # --- The relay: from the bus -------------------------------------------------------------------------------------
    relay(
        "no check for holes",
        "if previous_seq > max(room.seq, complete):",
        "if False:",
        "test_a_hole_is_filled_from_the_log_before_anything_after_it",
    ),
    relay(
        "what was delivered is delivered again when it comes again",
        "if entry[1] > room.seq and (len(room.reorder_buffer) < _MAX_REORDER_BUFFER_EVENTS or (room.is_open and entry[0] <= complete)):\n"
        "                room.reorder_buffer[entry[1]] = entry",
        "if True:\n                room.reorder_buffer[entry[1]] = entry\n                room.seq = min(room.seq, entry[1] - 1)",
        "test_a_push_that_comes_twice_or_too_late_is_delivered_once",
    ),
    relay(
        "what waits for a hole to be filled is not put in order",
        "for seq in sorted(room.reorder_buffer):",
        "for seq in list(room.reorder_buffer):",
        "test_pushes_that_overtake_each_other_are_put_in_order_without_the_log",
    ),
    relay(
        "what waits for a hole to be filled has no bound",
        "(len(room.reorder_buffer) < _MAX_REORDER_BUFFER_EVENTS or (room.is_open and entry[0] <= complete))",
        "True",
        "test_what_waits_for_a_hole_to_be_filled_is_bounded",
    ),
    bus(
        "a message that is none of ours ends the listening",
        "except (LookupError, TypeError, ValueError) as error:",
        "except ZeroDivisionError as error:",
        "test_a_message_on_the_bus_that_is_none_of_ours_stops_nothing",
    ),
    bus(
        "groups are not joined when the bus is back",
        "for group in sorted(self._wanted.keys() - self._joined, key=self._failures):",
        "for group in ():",
        "test_a_server_started_without_its_bus_delivers_and_joins_it_later",
        file=FAULT_TESTS,
    ),
    bus(
        "a bus that hangs holds up every subscriber",
        "            if not self._failing:\n                await self._join(group)",
        "            if True:\n                await self._join(group)",
        "test_only_the_first_subscriber_waits_for_a_bus_that_hangs",
    ),
    bus(
        "one Redis of several that is away keeps the groups of the others out",
        "key=self._failures)",
        "key=str)",
        "test_a_server_that_is_away_does_not_keep_the_groups_of_the_others_out",
        file=BUS_TESTS,
    ),
    bus(
        "a group is left although it is wanted again",
        "if self._channel is None or group in self._wanted or group not in self._entered:",
        "if self._channel is None or group not in self._entered:",
        "test_a_group_that_is_wanted_again_before_it_is_left_stays_joined",
        file=BUS_TESTS,
    ),
    # --- The relay: from the log -------------------------------------------------------------------------------------
    relay(
        "the log is never compared with",
        "                await self.compare_with_log()\n            except",
        "                pass\n            except",
        "test_a_writer_killed_right_after_its_commit_is_heard_on_an_open_connection",
        file=FAULT_TESTS,
    ),
    relay(
        "comparing repairs nothing",
        "if (room := self.rooms.get(channel)) is not None and -1 < room.seq < seq\n",
        "if (room := self.rooms.get(channel)) is not None and -1 < room.seq < seq < 0\n",
        "test_what_the_bus_lost_with_nothing_after_it_is_found_by_comparing",
    ),
    relay(
        "`global` is not compared",
        "        newest[GLOBAL] = found.seq\n",
        "",
        "test_what_the_bus_lost_with_nothing_after_it_is_found_by_comparing",
    ),
    relay(
        "a comparison counts although a repair failed",
        "        newest[GLOBAL] = found.seq\n",
        "        newest[GLOBAL] = found.seq\n        self.position = found\n",
        "test_a_repair_that_fails_is_made_up_for",
    ),
    relay(
        "a repair delivers what was pushed meanwhile once more",
        "                    if event.seq > room.seq:\n",
        "                    if True:\n",
        "test_pushes_during_a_repair_are_neither_lost_nor_doubled",
    ),
    relay(
        "filling many rooms delivers what was pushed meanwhile once more",
        "if room is not None and event.seq > room.seq:",
        "if room is not None:",
        "test_many_rooms_that_are_behind_are_filled_together",
    ),
    relay(
        "filling many rooms ends with the first part",
        "            is_more = len(events) == BACKFILL_CHUNK_EVENTS\n",
        "            is_more = False\n",
        "test_many_rooms_that_are_behind_are_filled_together",
    ),
    relay(
        "a repair ends with the first part",
        "                if len(events) < BACKFILL_CHUNK_EVENTS:\n                    break\n",
        "                break\n",
        "test_a_repair_of_many_events_reads_them_in_parts_and_in_order",
    ),
    relay(
        "the epoch is not compared",
        "found.epoch != known.epoch or ",
        "",
        "test_another_log_under_the_same_name_ends_every_subscription",
    ),
    relay(
        "a log that has gone back is not noticed",
        "found.seq < known.seq or ",
        "",
        "test_a_log_that_has_gone_back_under_its_own_name_ends_every_subscription",
    ),
    relay(
        "pruning ahead of the relay is not noticed",
        " or found.trimmed_seq > known.seq",
        "",
        "test_pruning_ahead_of_the_relay_is_noticed_when_it_compares",
    ),
    relay(
        "rooms of another log are kept",
        "            if self._is_here(room):\n                self._close(room)\n            for subscriber",
        "            for subscriber",
        "test_a_log_that_begins_again_is_followed_from_its_beginning",
    ),
    relay(
        "what the comparison has found is not known to a quiet room",
        "complete = max(room.seq, self._known_position.seq) if room.is_open else room.seq",
        "complete = room.seq",
        "test_pruning_costs_a_quiet_room_nothing",
    ),
    relay(
        "a repair reads from the last event of a quiet room",
        "after=max(room.seq, known.seq),",
        "after=room.seq,",
        "test_pruning_costs_a_quiet_room_nothing",
    ),
    # --- The relay: where a subscription starts ----------------------------------------------------------------------
    relay(
        "the position is read before the group is joined",
        "            await self.groups.join(room.group)\n            position = await self._positions.get(None)\n",
        "            position = await self._positions.get(None)\n            await self.groups.join(room.group)\n",
        "test_nothing_from_before_its_answer_reaches_a_subscriber_although_the_room_was_opening",
    ),
    room(
        "a subscriber goes live although its room is past it",
        "        if after < self.seq:\n            return False\n",
        "",
        "test_a_subscriber_that_its_room_has_overtaken_is_given_what_lies_between",
    ),
    room(
        "a subscriber that is ahead of its room is live at once",
        "            self.ahead[subscriber] = after\n",
        "            self.live[subscriber] = None\n",
        "test_a_subscriber_that_has_read_ahead_of_its_room_is_given_nothing_twice",
    ),
    room(
        "a subscriber that is ahead is live one event too soon",
        "if after < seq]",
        "if after <= seq]",
        "test_a_subscriber_that_has_read_ahead_of_its_room_is_given_nothing_twice",
    ),
    room(
        "a subscriber that goes live gets what is under way to others",
        "        else:\n            self.flush()\n            self.live[subscriber] = None\n",
        "        else:\n            self.live[subscriber] = None\n",
        "test_what_is_under_way_to_others_is_not_given_to_whoever_has_it_already",
    ),
    room(
        "live events go on during a replay",
        "        self.flush()\n        self.live.pop(subscriber, None)\n",
        "        self.flush()\n",
        "test_subscribing_again_with_since_gives_every_event_once_more_and_then_each_once",
    ),
    relay(
        "a room that closes does not leave its group",
        '        self._spawn(self.groups.leave(room.group), f"leave {room.channel}")\n',
        "",
        "test_a_subscriber_that_gives_up_while_its_room_opens_leaves_nothing_behind",
    ),
    Mutant(
        "a position is shared by those who asked after it was read",
        "realtime/database.py",
        "                answers = [self._asked.pop(key) for key in keys]\n"
        "                try:\n"
        "                    found = await in_database_thread(self._query, keys)\n",
        "                try:\n"
        "                    found = await in_database_thread(self._query, keys)\n"
        "                    answers = [self._asked.pop(key) for key in keys]\n",
        f"{RELAY_TESTS}::test_rooms_that_open_together_share_their_readings_of_the_position",
    ),
    # --- Resuming ----------------------------------------------------------------------------------------------------
    Mutant(
        "a replay is not bounded by the answered position",
        "realtime/queries/resume.py",
        "after=after, through=through, most=REPLAY_CHUNK_EVENTS)",
        "after=after, through=2**62, most=REPLAY_CHUNK_EVENTS)",
        f"{RELAY_TESTS}::test_a_replay_ends_at_the_answered_position_and_live_events_follow",
    ),
    Mutant(
        "a replay ends with its first part",
        "realtime/connection/handlers.py",
        "after = events[-1].seq if len(events) == REPLAY_CHUNK_EVENTS else through",
        "after = through",
        f"{RELAY_TESTS}::test_a_replay_ends_at_the_answered_position_and_live_events_follow",
    ),
    Mutant(
        "what came during a replay is left out",
        "realtime/connection/handlers.py",
        "            if room.activate(session, after=after):\n                return\n",
        "            if room.activate(session, after=max(after, room.seq)):\n                return\n",
        f"{RELAY_TESTS}::test_a_subscriber_that_its_room_has_overtaken_is_given_what_lies_between",
    ),
    Mutant(
        "the epoch of whoever resumes is not looked at",
        "realtime/queries/resume.py",
        "epoch is not None and epoch != position.epoch",
        "False",
        f"{RELAY_TESTS}::test_another_log_under_the_same_name_ends_every_subscription",
    ),
    Mutant(
        "whoever resumes from what is pruned gets the rest as if it were all",
        "realtime/queries/resume.py",
        "    if since < position.trimmed_seq:\n",
        "    if False:\n",
        f"{PRUNE_TESTS}::test_a_server_prunes_by_itself_and_nobody_who_listens_notices",
    ),
    # --- The log -----------------------------------------------------------------------------------------------------
    log(
        "writers do not wait for each other on Postgres",
        "    SELECT pg_advisory_xact_lock({_APPEND_LOCK})\n",
        "    SELECT {_APPEND_LOCK}\n",
        "test_whoever_writes_its_events_first_is_committed_first",
        file=WRITER_TESTS,
    ),
    log(
        "constraints are checked under the log's lock",
        "    SET CONSTRAINTS ALL IMMEDIATE;\n",
        "",
        "test_constraints_that_wait_for_the_commit_do_not_wait_for_it_under_the_log_s_lock",
        file=WRITER_TESTS,
    ),
    log(
        "a writer that stops holds up all others",
        "    SET LOCAL idle_in_transaction_session_timeout = '{_MAX_SILENCE_UNDER_LOCK}';\n",
        "",
        "test_a_writer_that_stops_while_it_holds_the_log_does_not_hold_up_the_others_for_long",
        file=WRITER_TESTS,
    ),
    log(
        "the event before a pruned one is said to be none",
        "seq or trimmed_seq or 0",
        "seq or 0",
        "test_an_event_after_a_pruned_one_is_not_delivered_as_if_nothing_were_missing",
        file=RELAY_TESTS,
    ),
    log(
        "every event of a transaction names the same event before it",
        "            last_seqs[room] = seq\n",
        "",
        "test_an_event_is_in_its_rooms_and_in_global_and_knows_the_one_before_it_in_each",
    ),
    log(
        "what is pruned is left out without a word",
        " or after < min(trimmed_seq, through)",
        "",
        "test_reading_from_before_what_is_pruned_is_refused_not_shortened",
    ),
    log(
        "another log is read without a word",
        "found_epoch != epoch or ",
        "",
        "test_reading_under_another_name_of_the_log_is_refused",
    ),
    log(
        "a log that is pruned empty begins again",
        'seq=Greatest(Coalesce(newest, 0), "trimmed_seq")',
        "seq=Coalesce(newest, 0)",
        "test_a_log_that_is_pruned_empty_keeps_its_position",
        file=PRUNE_TESTS,
    ),
    log(
        "pruning leaves holes",
        "gone = list(takewhile(",
        "gone = list(filter(",
        "test_only_an_unbroken_run_from_the_oldest_goes",
        file=PRUNE_TESTS,
    ),
    log(
        "young events are pruned",
        "row[1] <= may_go and ",
        "",
        "test_what_is_young_stays_whatever_its_number",
        file=PRUNE_TESTS,
    ),
    # --- Before the commit -------------------------------------------------------------------------------------------
    before_commit(
        "what a savepoint by hand undid is announced",
        "if not (isinstance(hook[1], _Collected) and hook[1].number > number)",
        "if True",
        "test_a_savepoint_rolled_back_announces_nothing_of_what_was_done_in_it",
    ),
    before_commit(
        "a second commit by hand writes the events again",
        "if not isinstance(hook[1], _Collected)]",
        "if True]",
        "test_commits_by_hand_write_each_event_once",
    ),
    before_commit(
        "the push waits for hooks that may be slow or fail",
        "hooks.insert(0, (set(), committed, True))",
        "hooks.append((set(), committed, True))",
        "test_the_push_is_made_before_other_hooks_which_may_be_slow_or_fail",
    ),
    before_commit(
        "what cannot be written is committed without its events",
        "                connection.rollback()\n                raise\n",
        "                commit()\n                raise\n",
        "test_what_cannot_be_written_undoes_the_change_and_is_told_to_whoever_commits",
    ),
    Mutant(
        "a change is announced when it is made",
        "realtime/events/receivers.py",
        "    before_commit.collect(Announcement(data.name, data.timestamp, data, data.rooms()))\n",
        "    write([Announcement(data.name, data.timestamp, data, data.rooms())])\n",
        f"{COMMIT_TESTS}::test_events_are_written_by_the_last_statements_before_the_commit",
    ),
    # --- The publisher -----------------------------------------------------------------------------------------------
    publisher(
        "the event before is not told",
        "entries.append((delivery.previous_seq, event.seq,",
        "entries.append((0, event.seq,",
        "test_the_bus_is_killed_frozen_and_stopped_under_a_stream_of_changes",
        file=FAULT_TESTS,
    ),
    publisher(
        "what waits for the bus has no bound",
        "while len(self._queue) > self._max_unpublished_events or self._queued_bytes > _MAX_UNPUBLISHED_BYTES:",
        "while False:",
        "test_a_hung_bus_never_delays_whoever_commits_and_the_newest_pushes_follow",
    ),
    publisher(
        "the newest pushes are left out, not the oldest",
        "self._queue.popleft().event.data",
        "self._queue.pop().event.data",
        "test_what_waits_is_bounded_in_bytes_as_well",
    ),
    publisher(
        "a push to a bus that hangs is never given up",
        "            async with asyncio.timeout(self._timeout_seconds):\n",
        "            if True:\n",
        "test_a_hung_bus_never_delays_whoever_commits_and_the_newest_pushes_follow",
    ),
    publisher(
        "a push may be as large as all that waits",
        "if entries and size_bytes + len(message) > _MAX_PUSH_BYTES:",
        "if False:",
        "test_much_of_one_room_is_pushed_in_parts_of_a_bounded_size",
    ),
    publisher(
        "one push that cannot be made ends all",
        "            except Exception:\n                # Nothing is known",
        "            except ZeroDivisionError:\n                # Nothing is known",
        "test_one_push_that_cannot_be_made_does_not_end_the_others",
    ),
    publisher(
        "a process ends before its pushes have left",
        "        _publisher.flush(timeout_seconds=settings.MAHAVISHNU_LIMITS.publish_timeout_seconds)\n",
        "        pass\n",
        "test_a_process_that_ends_first_sends_what_it_committed",
    ),
    publisher(
        "a forked child waits for a thread that it has not got",
        "    global _publisher, _publisher_lock\n    _publisher = None\n",
        "    return\n",
        "test_a_forked_child_publishes_and_so_does_its_parent",
    ),
    # --- Connections that end ----------------------------------------------------------------------------------------
    Mutant(
        "whoever goes stays a member of its rooms",
        "realtime/consumers.py",
        "            self.relay.leave(channel, self)\n",
        "            pass\n",
        f"{SOAK_TESTS}::test_clients_that_have_come_and_gone_leave_nothing_behind",
    ),
    bus(
        "the name of every group that was left is kept",
        "        self._joined.discard(group)\n",
        "        pass\n",
        "test_clients_that_have_come_and_gone_leave_nothing_behind",
        file=SOAK_TESTS,
    ),
    Mutant(
        "a connection that has ended refers to itself",
        "realtime/daphne_server/websocket.py",
        "        del self.is_closed\n",
        "        pass\n",
        f"{SOAK_TESTS}::test_clients_that_have_come_and_gone_leave_nothing_behind",
    ),
    Mutant(
        "a request that is given up refers to itself",
        "realtime/connection/dispatcher.py",
        "            del deadline\n",
        "            pass\n",
        f"{SOAK_TESTS}::test_a_client_that_leaves_while_it_is_answered_leaves_nothing_behind",
    ),
    # --- Slow readers ------------------------------------------------------------------------------------------------
    Mutant(
        "nobody is too slow",
        "realtime/connection/slow_consumer.py",
        "self._backlog.taken_bytes - self._taken_bytes < bound // _PACE_PART",
        "False",
        f"{BACKPRESSURE_TESTS}::test_a_reader_with_too_much_unsent_is_told_and_closed_and_others_have_everything",
    ),
    Mutant(
        "too slow is who is sent much at once",
        "realtime/connection/slow_consumer.py",
        "and self._judging is None:\n            self._judge_later()\n",
        'and self._judging is None:\n            self._on_slow(f"{unsent} bytes unsent")\n',
        f"{BACKPRESSURE_TESTS}::test_a_transaction_of_many_mebibytes_cuts_nobody_who_reads_and_costs_little_memory",
    ),
]
