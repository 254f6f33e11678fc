import gc
from concurrent.futures import ThreadPoolExecutor

import torch

from mmadfer.data.loading.memory_pool import MAX_FREE_BLOCKS, Blocks


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    blocks = Blocks()
    first = blocks.take((3, 5), torch.float32)
    place, row = first.data_ptr(), first[1:].view(-1).numpy()
    assert (first.shape, first.dtype, first.is_contiguous()) == ((3, 5), torch.float32, True)
    del first
    other = blocks.take((3, 5), torch.float32)
    assert other.data_ptr() != place  # a view of the first one is still there
    del row
    assert blocks.take((4, 8), torch.uint8).data_ptr() == place


def test_what_autograd_keeps_is_not_given_away() -> None:
    blocks, weight = Blocks(), torch.ones(4, requires_grad=True)
    product = weight * blocks.take((4,), torch.float32).fill_(3)  # backward needs the block
    blocks.take((4,), torch.float32).fill_(7)
    product.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0] * 4


def test_it_keeps_a_few_blocks_only_and_none_that_are_too_small() -> None:
    blocks = Blocks()
    taken = [blocks.take((100,), torch.uint8) for _ in range(3 * MAX_FREE_BLOCKS)]
    del taken
    gc.collect()
    assert len(blocks._free) == MAX_FREE_BLOCKS
    blocks.take((101,), torch.uint8)
    assert [len(block) for block in blocks._free] == [101]


def test_memory_of_a_much_larger_tensor_is_not_kept() -> None:
    blocks = Blocks(2)
    taken = [blocks.take((1000,), torch.uint8) for _ in range(3)]
    del taken
    gc.collect()
    assert [len(block) for block in blocks._free] == [1000, 1000]
    blocks.take((500,), torch.uint8)
    assert [len(block) for block in blocks._free] == [1000, 1000]
    blocks.take((499,), torch.uint8)
    assert [len(block) for block in blocks._free] == [499]


def test_threads_never_share_a_block() -> None:
    blocks = Blocks()

    def use(number: int) -> bool:
        mine = [blocks.take((64,), torch.uint8).fill_(number) for _ in range(3)]
        return all(bool((tensor == number).all()) for tensor in mine)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, [k % 250 for k in range(4000)]))
