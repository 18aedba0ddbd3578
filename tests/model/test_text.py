"""Texts: what the small encoder learns from, and the cache when things go wrong."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from manifests.errors import UserError
from model.text import CachedText, TextEncoder, TinyText

PROMPTS = (
    "a grey bird with colourful feathers, waving its wings",
    "",
    "  a man\t in a red   jacket &amp;amp; blue trousers\n walks ",
    "bird " * 700,
    "übergroß: 鳥 waves",
)


class Counting:
    """An encoder that counts the prompts it is asked for."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.dim, self.length = encoder, encoder.dim, encoder.length
        self.asked: list[str] = []

    @property
    def digest(self) -> str:
        return self.encoder.digest

    def encode(self, prompts: Sequence[str]) -> Tensor:
        self.asked += prompts
        return self.encoder.encode(prompts)


def test_the_second_use_of_a_prompt_never_runs_the_encoder(tmp_path: Path) -> None:
    first, second = (Counting(TinyText(dim=24, length=40).to(torch.bfloat16)) for _ in range(2))
    asked = [*PROMPTS, PROMPTS[0]]
    made = CachedText(first, tmp_path).encode(asked)
    assert first.asked == list(PROMPTS)
    kept = CachedText(second, tmp_path).encode(asked)
    assert second.asked == []
    assert torch.equal(made, kept)
    assert torch.equal(kept, torch.cat([first.encoder.encode([prompt]) for prompt in asked]))
    assert kept.dtype == torch.bfloat16
    assert not kept.requires_grad
    assert CachedText(second, tmp_path).encode([]).shape == (0, 40, 24)


def test_cached_embeddings_are_returned_where_they_are_wanted(tmp_path: Path) -> None:
    """On the device `meta`, which every machine has; both when they are made and when they are read."""
    for _ in range(2):
        elsewhere = CachedText(TinyText(dim=8, length=4), tmp_path, "meta").encode(["a bird", ""])
        assert (elsewhere.device.type, elsewhere.shape) == ("meta", (2, 4, 8))
    assert CachedText(TinyText(dim=8, length=4), tmp_path, "meta").encode([]).device.type == "meta"


@pytest.mark.gpu
def test_embeddings_lie_where_the_weights_do_and_cached_ones_where_they_are_wanted(tmp_path: Path) -> None:
    tiny = TinyText(dim=8, length=4)
    wanted, digest = tiny.encode(PROMPTS).detach(), tiny.digest
    there = tiny.to("cuda")
    assert there.digest == digest
    assert there.encode(PROMPTS).device.type == "cuda"
    torch.testing.assert_close(there.encode(PROMPTS).detach().cpu(), wanted)
    cached = CachedText(there, tmp_path, "cuda").encode(PROMPTS)
    assert cached.device.type == "cuda"
    torch.testing.assert_close(cached.cpu(), wanted)


def test_encoders_do_not_share_entries_and_a_learning_one_does_not_read_its_past(tmp_path: Path) -> None:
    one, two = Counting(TinyText(dim=8, length=4, seed=0)), Counting(TinyText(dim=8, length=4, seed=1))
    CachedText(one, tmp_path).encode(["a bird"])
    CachedText(two, tmp_path).encode(["a bird"])
    assert (one.asked, two.asked) == (["a bird"], ["a bird"])
    cached = CachedText(one, tmp_path)
    with torch.no_grad():
        one.encoder.place += 1
    torch.testing.assert_close(cached.encode(["a bird"]), one.encoder.encode(["a bird"]))


def damages(good: bytes) -> dict[str, bytes]:
    turned = bytearray(good)
    turned[-5] ^= 0x40
    return {"empty": b"", "cut": good[: len(good) // 2], "text": b"no safetensors at all", "turned bit": bytes(turned)}


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "turned bit", "other sum", "other shape", "other name"])
def test_a_damaged_file_of_the_cache_is_made_again(damage: str, tmp_path: Path) -> None:
    encoder = Counting(TinyText(dim=8, length=4))
    cached = CachedText(encoder, tmp_path)
    wanted = cached.encode(["a bird"])
    (path,) = tmp_path.rglob("*.safetensors")
    good = path.read_bytes()
    if damage in damages(good):
        path.write_bytes(damages(good)[damage])
    else:
        rows = torch.ones(4, 9 if damage == "other shape" else 8)
        total = bytes(32) if damage == "other sum" else hashlib.sha256(rows.numpy().tobytes()).digest()
        name = "words" if damage == "other name" else "text"
        save_file({name: rows, "sha256": torch.tensor(list(total), dtype=torch.uint8)}, path)
    damaged = path.read_bytes()
    with path.open("rb") as reader:
        assert torch.equal(cached.encode(["a bird"]), wanted)
        assert reader.read() == damaged  # another who has it open does not see it change under their hands
    assert encoder.asked == ["a bird"] * 2
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]


WRITER = """
import sys
from pathlib import Path
from model.text import CachedText, TinyText
folder = Path(sys.argv[1])
cached = CachedText(TinyText(dim=64, length=24), folder)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    for path in folder.rglob("*.safetensors"):
        path.unlink(missing_ok=True)
    texts = cached.encode([f"prompt number {n}" for n in range(40)])
print(float(texts.double().sum()))
"""


def test_two_processes_may_fill_one_cache_at_once(tmp_path: Path) -> None:
    """Both throw away and make the same files, over and over; neither fails nor reads half a file."""
    cache = tmp_path / "cache"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both if process.stdout] == ["ready\n"] * 2
    for process in both:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    wanted = TinyText(dim=64, length=24).encode([f"prompt number {n}" for n in range(40)]).detach()
    for line in said:
        assert float(line) == pytest.approx(float(wanted.double().sum()), rel=1e-9)
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".safetensors"}


def test_a_words_row_is_its_sha256_whatever_its_case_and_the_marks_around_it() -> None:
    tiny = TinyText(dim=8, length=6, words=4096)
    row = 1 + int(hashlib.sha256(b"bird").hexdigest(), 16) % 4095
    assert tiny.rows('A "Bird", BIRD!')[1:3] == [row, row]
    assert tiny.rows("bird " * 9) == [row] * 6
    assert tiny.rows("bird ?!")[1:] == [0] * 5


ANOTHER = """
from model.text import TinyText
tiny = TinyText(dim=8, length=6)
print(tiny.digest, tiny.rows("a grey bird waves"), tiny.encode(["a grey bird waves"]).double().sum().item().hex())
"""


def test_another_process_gives_the_same_rows_weights_and_digest() -> None:
    """Python's own `hash` of a word would not: it is salted anew in each process."""
    tiny = TinyText(dim=8, length=6)
    total = tiny.encode(["a grey bird waves"]).double().sum().item().hex()
    here = f"{tiny.digest} {tiny.rows('a grey bird waves')} {total}"
    there = subprocess.run([sys.executable, "-c", ANOTHER], capture_output=True, text=True, check=True, timeout=120)
    assert there.stdout.strip() == here


def test_words_beyond_the_length_are_not_read() -> None:
    tiny = TinyText(dim=8, length=3)
    assert torch.equal(tiny.encode(["one two three four"]), tiny.encode(["one two three"]))
    assert not torch.equal(tiny.encode(["one two three"]), tiny.encode(["one two"]))


def test_only_the_rows_of_a_prompts_words_and_of_its_end_get_gradients() -> None:
    tiny = TinyText(dim=8, length=6, words=4096)
    tiny.encode(["a bird"]).square().mul(torch.arange(8.0)).sum().backward()
    used = tiny.table.weight.grad.ne(0).any(dim=1).nonzero().flatten().tolist()
    assert used == sorted({0, *tiny.rows("a bird")})
    assert len(used) == 3


def test_the_order_of_words_matters_and_the_neighbours_in_the_batch_do_not() -> None:
    tiny = TinyText(dim=8, length=6)
    several = tiny.encode(["red jacket blue trousers", "blue jacket red trousers", ""])
    assert several.shape == (3, 6, 8)
    assert (several[0] - several[1]).abs().max() > 0.1
    for n, prompt in enumerate(["red jacket blue trousers", "blue jacket red trousers", ""]):
        assert torch.equal(tiny.encode([prompt])[0], several[n])
    assert tiny.encode([]).shape == (0, 6, 8)


def test_the_empty_prompt_is_learned_like_any_other() -> None:
    tiny = TinyText(dim=8, length=6)
    tiny.encode([""]).square().mul(torch.arange(8.0)).sum().backward()
    used = tiny.table.weight.grad.ne(0).any(dim=1).nonzero().flatten()
    assert used.tolist() == [0]
    assert tiny.place.grad.ne(0).any(dim=1).all()


def test_the_small_encoder_can_learn_to_tell_prompts_apart() -> None:
    """Four prompts of the same words in other orders, and none: a linear read-out of what is encoded."""
    torch.manual_seed(0)
    prompts = ["red jacket blue trousers", "blue jacket red trousers", "red trousers blue jacket", ""]
    tiny, read_out = TinyText(dim=16, length=6), torch.nn.Linear(16 * 6, 4)
    rule = torch.optim.Adam([*tiny.parameters(), *read_out.parameters()], lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(read_out(tiny.encode(prompts).flatten(1)), torch.arange(4))
        rule.zero_grad()
        loss.backward()
        rule.step()
    assert float(loss.detach()) < 0.05


def test_the_small_encoder_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    tiny = TinyText(dim=8, length=6, words=64, seed=3)
    tiny.save(tmp_path / "text")
    again = TinyText.load(tmp_path / "text")
    assert (again.digest, again.dim, again.length, again.words) == (tiny.digest, 8, 6, 64)
    assert torch.equal(again.encode(PROMPTS), tiny.encode(PROMPTS))
    assert {p.suffix for p in (tmp_path / "text").iterdir()} == {".safetensors", ".json"}
    with torch.no_grad():
        again.table.weight[5, 5] += 1e-6
    assert again.digest != tiny.digest
    assert TinyText(dim=8, length=6, words=64, seed=4).digest != tiny.digest
    assert TinyText(dim=8, length=6, words=64, seed=3).digest == tiny.digest
    assert isinstance(tiny.to(torch.bfloat16).digest, str)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_weights_kept_in_half_precision_are_read_as_what_they_were_rounded_to(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    tiny = TinyText(dim=8, length=6, words=64).to(dtype)
    tiny.save(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    again = TinyText.load(tmp_path)
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tiny.state_dict()[name].float())


def test_a_small_encoder_that_is_missing_damaged_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        TinyText.load(tmp_path)
    TinyText(dim=8, length=6, words=64).save(tmp_path)
    settings_file, weights = tmp_path / "config.json", (tmp_path / "model.safetensors").read_bytes()
    good = json.loads(settings_file.read_text())
    for wrong in (
        good | {"class": "Other"},
        good | {"dim": 9},
        good | {"width": 3},
        {},
        {"class": "TinyText", "dim": "x"},
    ):
        settings_file.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"^[^\n]+$"):
            TinyText.load(tmp_path)
    settings_file.write_text(json.dumps(good))
    (tmp_path / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(UserError, match="can be read"):
        TinyText.load(tmp_path)
