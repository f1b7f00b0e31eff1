import asyncio
import time

from loops import on_a_loop

from genai.evaluation.targets.slots import Slots


async def hold(slots: Slots, order: list[int], number: int, until: asyncio.Event) -> None:
    async with slots.one():
        order.append(number)
        await until.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@on_a_loop
async def test_no_more_than_allowed_and_in_turn() -> None:
    slots, order = Slots(2), list[int]()
    ends = [asyncio.Event() for _ in range(5)]
    tasks = [asyncio.create_task(hold(slots, order, number, end)) for number, end in enumerate(ends)]
    await settle()
    assert order == [0, 1]
    ends[1].set()
    await settle()
    assert order == [0, 1, 2]
    for end in ends:
        end.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


@on_a_loop
async def test_fewer_after_a_refusal_and_more_with_every_answer() -> None:
    slots = Slots(16)
    together = time.monotonic()
    slots.too_many(together)
    slots.too_many(together)  # was sent with the other one
    assert slots.allowed == 4
    slots.too_many(time.monotonic())
    slots.too_many(time.monotonic())
    assert slots.allowed == 1
    for _ in range(200):
        slots.went_well()
    assert slots.allowed == 16


@on_a_loop
async def test_who_waits_goes_on_when_more_are_allowed() -> None:
    slots, order, end = Slots(2), list[int](), asyncio.Event()
    slots.too_many(time.monotonic())
    tasks = [asyncio.create_task(hold(slots, order, number, end)) for number in range(3)]
    await settle()
    assert order == [0]
    slots.went_well()
    await settle()
    assert order == [0, 1]
    end.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


@on_a_loop
async def test_who_gives_up_leaves_the_turn_to_the_next() -> None:
    slots, order, end = Slots(1), list[int](), asyncio.Event()
    end.set()
    async with slots.one():
        first, second, third = (asyncio.create_task(hold(slots, order, number, end)) for number in range(3))
        await settle()
        first.cancel()  # while it waits
        await settle()
    second.cancel()  # it has just been woken
    await asyncio.wait({first, second, third}, timeout=1)
    assert first.cancelled() and second.cancelled()
    assert order == [2]
