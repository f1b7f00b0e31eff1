"""What the engine's thread does, turn by turn: commands, then one step of the model, then events. Knows of no thread.

Shapes: R rows of logits, V vocabulary.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from genai.inference.adapter_table import AdapterTable
from genai.inference.admission import GrammarQueue, as_fault, check_request
from genai.inference.answers import Answer
from genai.inference.blocks import BlockPool
from genai.inference.commands import Abort, Call, Command, Compiled, Refuse, Submit
from genai.inference.constraints import GrammarCompiler
from genai.inference.interfaces import Answering, Part, RefusedError, Sampled, Step
from genai.inference.logprobs import prompt_logprobs
from genai.inference.memory import count_blocks
from genai.inference.probing import prove_effect
from genai.inference.sampling import Sampler
from genai.inference.scheduler import Scheduler
from genai.inference.stats import EngineStats
from genai.inference.text import Vocabulary
from genai.log import get_logger
from genai.models.generation import Event, Fault, GenerationRequest, Usage

if TYPE_CHECKING:
    import torch

    from genai.config.serve import LocalEngineConfig
    from genai.inference.opening import OpenedModel

_log = get_logger(__name__)

_MOST_QUEUE_TIMES = 10_000
"""Kept for whoever asks; nobody may."""
CRASHES_TO_FAIL = 3
"""So many steps one after the other that end with a fault of ours, and the engine gives up."""


class EngineLoop:
    """Everything that the engine's thread owns.

    Args:
        name: of the endpoint, for messages.
        opened: the model.
        config: how many answers at a time, how long.
        grammar_timeout_s: to make sense of a grammar.
        tell: takes commands from other threads.
    """

    def __init__(
        self,
        name: str,
        opened: OpenedModel,
        *,
        config: LocalEngineConfig,
        grammar_timeout_s: float,
        tell: Callable[[Command], object],
    ) -> None:
        self.failed: str | None = None
        """Why nothing is answered any more."""
        self.adapters = AdapterTable(opened.bank, self._prove)
        self._name = name
        self._runner = opened.runner
        self._block_size = config.block_size
        self._vocab_size = opened.vocab_size
        self._max_model_len = opened.max_model_len
        self._max_open = config.max_num_seqs + config.max_waiting
        self._stop_token_ids = frozenset(opened.stop_token_ids)
        self._vocabulary = Vocabulary(opened.tokenizer_file)
        self._sampler = Sampler(opened.vocab_size, stop_token_ids=opened.stop_token_ids)
        compiler = GrammarCompiler(
            opened.tokenizer_file, vocab_size=opened.vocab_size, stop_token_ids=opened.stop_token_ids
        )
        self._grammars = GrammarQueue(compiler, timeout_s=grammar_timeout_s, tell=tell)
        num_blocks = count_blocks(
            config, kv_bytes_per_token=opened.runner.kv_bytes_per_token, max_model_len=opened.max_model_len
        )
        self._runner.allocate(num_blocks, config.block_size)
        self._pool = BlockPool(num_blocks, config.block_size, prefix_caching=config.prefix_caching)
        self._scheduler = Scheduler(
            pool=self._pool,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_model_len=opened.max_model_len,
            max_waiting=config.max_waiting,
        )
        self._answers: dict[str, Answer] = {}
        self._deadlines: list[tuple[float, str]] = []
        """A heap; answers that are over stay in it until their time comes, or until most are over."""
        self._events: list[Event] = []
        self._queue_times: list[float] = []
        self._crashes_in_a_row = 0
        self._steps = self._prompt_tokens = self._generation_tokens = self._crashes = 0
        self._peak_running, self._peak_kv_usage = 0, 0.0

    # --- for any thread -----------------------------------------------------------------------------------------------

    def check(self, request: GenerationRequest) -> Fault | None:
        """What is wrong with a request by itself."""
        if self.failed is not None:
            return Fault(code="not_loaded", message=self.failed)
        try:
            check_request(request, vocab_size=self._vocab_size, max_model_len=self._max_model_len)
        except RefusedError as error:
            return as_fault(error)
        return None

    def stats(self) -> EngineStats:
        """Numbers of this moment."""
        running = self._scheduler.num_running
        return EngineStats(
            running=running,
            waiting=max(0, len(self._answers) - running),
            kv_usage=self._pool.usage,
            kv_blocks=self._pool.num_usable,
            prefix_queries=self._pool.queries,
            prefix_hits=self._pool.hits,
            preemptions=self._scheduler.num_preemptions,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            crashes=self._crashes,
            peak_running=self._peak_running,
            peak_kv_usage=self._peak_kv_usage,
        )

    # --- a turn -------------------------------------------------------------------------------------------------------

    def turn(self, commands: Iterable[Command]) -> bool:
        """Carry out commands, then one step; whether there was one to do."""
        for command in commands:
            self._carry_out(command)
        self._expire()
        return self._step()

    def take_queue_times(self) -> list[float]:
        """Seconds that requests waited whose first token was read since the last call. Any thread."""
        times, self._queue_times = self._queue_times, []
        return times

    def take_events(self) -> list[Event]:
        """What the turn brought."""
        events, self._events = self._events, []
        return events

    def idle_s(self) -> float | None:
        """How long to wait for commands when there is no step to do; None: until there is one."""
        return max(0.0, self._deadlines[0][0] - time.monotonic()) if self._deadlines and self._answers else None

    def close(self, commands: Iterable[Command], fault: Fault) -> None:
        """Answer everything with a fault, and let go of the model."""
        for command in commands:
            if isinstance(command, Call):
                command.done.set_exception(RefusedError(fault.message, fault=fault.code))
            elif isinstance(command, Submit | Refuse):
                self._events.append(_refused(command.request, fault))
        self._end_all(fault)
        self.adapters.clear()
        self._grammars.close()
        self._runner.close()

    # --- commands

    def _carry_out(self, command: Command) -> None:
        match command:
            case Submit():
                self._begin(command)
            case Refuse(request, fault):
                self._events.append(_refused(request, fault))
            case Abort(ids):
                for answer in [self._answers[request_id] for request_id in ids if request_id in self._answers]:
                    self._end(answer, answer.break_off("abort"))
            case Compiled():
                self._take_constraint(command)
            case Call(function, done):
                try:
                    done.set_result(function())
                except BaseException as error:
                    done.set_exception(error)

    def _begin(self, command: Submit) -> None:
        request = command.request
        try:
            answer = self._accept(command)
        except RefusedError as error:
            self._events.append(_refused(request, as_fault(error)))
            return
        if answer.deadline is not None:
            heapq.heappush(self._deadlines, (answer.deadline, request.id))
        if request.grammar is None:
            self._admit(answer)
        else:
            self._grammars.begin(request)

    def _accept(self, command: Submit) -> Answer:
        request = command.request
        if self.failed is not None:
            raise RefusedError(self.failed, fault="not_loaded")
        if request.id in self._answers:
            raise RefusedError(f"request {request.id} is under way already")
        if len(self._answers) >= self._max_open:
            raise RefusedError(f"{len(self._answers)} requests are under way: ask again later", fault="overloaded")
        slot = self.adapters.take(request.adapter)
        sequence = Answering(request=request, arrival=command.arrival, adapter_slot=slot, cache_salt=slot)
        answer = self._answers[request.id] = Answer(sequence, self._vocabulary, self._stop_token_ids)
        return answer

    def _take_constraint(self, command: Compiled) -> None:
        answer = self._answers.get(command.id)
        if answer is None:
            return
        if isinstance(command.result, Fault):
            self._end(answer, answer.break_off("error", command.result))
            return
        answer.sequence.constraint = command.result
        self._admit(answer)

    def _admit(self, answer: Answer) -> None:
        try:
            self._scheduler.add(answer.sequence)
        except RefusedError as error:
            self._end(answer, answer.break_off("error", as_fault(error)))

    def _expire(self) -> None:
        """End what took too long, whether it is read or waits."""
        deadlines, now = self._deadlines, time.monotonic()
        if len(deadlines) > 64 and len(deadlines) > 2 * len(self._answers):
            deadlines[:] = [entry for entry in deadlines if entry[1] in self._answers]
            heapq.heapify(deadlines)
        while deadlines and (deadlines[0][0] <= now or deadlines[0][1] not in self._answers):
            deadline, request_id = heapq.heappop(deadlines)
            answer = self._answers.get(request_id)
            if answer is not None and answer.deadline == deadline:
                fault = Fault(code="timeout", message=f"its time of {answer.request.timeout_s:g} s was over")
                self._end(answer, answer.break_off("abort", fault))

    # --- a step

    def _step(self) -> bool:
        step = None
        try:
            step = self._scheduler.next_step()
            if step is None:
                if self._scheduler.num_running + self._scheduler.num_waiting:
                    raise AssertionError("requests wait, but there is no step for any of them")
                return False
            self._read(step)
        except Exception as error:
            self._crash(error, step)
        return True

    def _read(self, step: Step) -> None:
        logits_RV = self._runner.forward(step)
        answers, logits_RV = self._rows(step, logits_RV)
        self._count(step, answers)
        sampled = self._sampler.choose(logits_RV, [answer.row for answer in answers])
        chosen = []
        for answer, token in zip(answers, sampled, strict=True):
            if isinstance(token, RefusedError):
                # before `advance`: what was read of it is not to be found by others
                self._end(answer, answer.break_off("error", as_fault(token)))
            else:
                chosen.append((answer, token))
        self._scheduler.advance(step, {answer.sequence.id: token.token_id for answer, token in chosen})
        for answer, token in chosen:
            self._go_on(answer, token)
        for part in step.parts:
            if part.wants_logits and (read := self._answers.get(part.sequence.id)) is not None and read.reads_only:
                self._end(read, read.end_read())
        self._crashes_in_a_row = 0

    def _rows(self, step: Step, logits_RV: torch.Tensor) -> tuple[list[Answer], torch.Tensor]:
        """Whose next token is to be chosen, and from which logits; those of prompts are told on the way."""
        answers, rows, at = [], [], 0
        for part in step.parts:
            if not (part.wants_logits or part.wants_all_logits):
                continue
            answer = self._answers[part.sequence.id]
            if part.wants_all_logits:
                self._tell_prompt(answer, part, logits_RV[at : at + len(part.token_ids)])
                at += len(part.token_ids)
            else:
                at += 1
            if part.wants_logits and not answer.reads_only and not answer.is_over:
                answers.append(answer)
                rows.append(at - 1)
        return answers, logits_RV if len(rows) == len(logits_RV) else logits_RV[rows]

    def _tell_prompt(self, answer: Answer, part: Part, logits_PV: torch.Tensor) -> None:
        """Each row says how likely the token behind it was; the last token of the prompt has none behind it."""
        request = answer.request
        token_ids = request.prompt_ids[part.start + 1 : part.stop + 1]
        try:
            told = prompt_logprobs(logits_PV[: len(token_ids)], token_ids, request.sampling.prompt_logprobs or 0)
        except RefusedError as error:
            self._end(answer, answer.break_off("error", as_fault(error)))
        else:
            answer.tell_prompt(part.start + 1, told)

    def _count(self, step: Step, answers: list[Answer]) -> None:
        self._steps += 1
        self._generation_tokens += len(answers)
        now = time.monotonic()
        for part in step.parts:
            sequence = part.sequence
            if sequence.output_ids or sequence.num_preempted:
                continue
            if part.start == sequence.num_cached and len(self._queue_times) < _MOST_QUEUE_TIMES:
                self._queue_times.append(now - sequence.arrival)
            if part.wants_logits:
                self._prompt_tokens += len(sequence.request.prompt_ids)
        self._peak_running = max(self._peak_running, self._scheduler.num_running)
        self._peak_kv_usage = max(self._peak_kv_usage, self._pool.usage)

    def _go_on(self, answer: Answer, token: Sampled) -> None:
        try:
            event = answer.go_on(token)
        except RefusedError as error:
            event = answer.break_off("error", as_fault(error))
        except Exception as error:
            _log.error("%s: the text of request %s failed", self._name, answer.request.id, exc_info=error)
            event = answer.break_off("error", _failure(error))
        if event.finish_reason is None:
            self._events.append(event)
        else:
            self._end(answer, event)

    # --- ends

    def _end(self, answer: Answer, event: Event) -> None:
        answer.is_over = True
        del self._answers[answer.request.id]
        self._scheduler.finish(answer.sequence)
        self.adapters.give_back(answer.sequence.adapter_slot)
        self._events.append(event)

    def _crash(self, error: Exception, step: Step | None) -> None:
        """A fault of ours: answers of that step are lost, and all that the cache held; the others are read again."""
        self._crashes += 1
        self._crashes_in_a_row += 1
        _log.error("%s: a step of the engine failed", self._name, exc_info=error)
        if self._crashes_in_a_row >= CRASHES_TO_FAIL:
            self.give_up(error)
            return
        lost = self._scheduler.reset()
        in_step = {part.sequence.id for part in step.parts} if step else {sequence.id for sequence in lost}
        for sequence in lost:
            answer = self._answers[sequence.id]
            if sequence.id in in_step:
                self._end(answer, answer.break_off("error", _failure(error)))
            else:
                self._admit(answer)

    def give_up(self, error: BaseException) -> None:
        """Answer nothing any more."""
        self.failed = f"{self._name} failed again and again ({type(error).__name__}); the server's log says why"
        _log.error("%s is given up after %d crashes", self._name, self._crashes, exc_info=error)
        self._end_all(Fault(code="not_loaded", message=self.failed))

    def _end_all(self, fault: Fault) -> None:
        """Without the scheduler, whose state may be the fault."""
        for answer in self._answers.values():
            self._events.append(answer.break_off("error", fault))
        self._answers.clear()
        self._scheduler.reset()

    def _prove(self, slot: int) -> None:
        prove_effect(self._runner, slot=slot, block_size=self._block_size)


def _refused(request: GenerationRequest, fault: Fault) -> Event:
    return Event(
        id=request.id,
        finish_reason="error",
        fault=fault,
        usage=Usage(prompt_tokens=len(request.prompt_ids), completion_tokens=0),
    )


def _failure(error: Exception) -> Fault:
    return Fault(code="failed", message=f"the engine failed ({type(error).__name__}); the request was not finished")
