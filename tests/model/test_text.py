"""Texts: what the small encoder learns from, UMT5 against Wan's own pipeline, and the cache when things go wrong."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from manifests.errors import UserError
from model.text import CachedText, TextEncoder, TinyText, umt5
from model.umt5 import clean

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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random UMT5 and a tokenizer of the kind of its own: unigrams, `</s>` at the end."""
    folder = tmp_path_factory.mktemp("base")
    rules = Tokenizer(models.Unigram())
    rules.pre_tokenizer = pre_tokenizers.Metaspace()
    rules.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    rules.train_from_iterator(["a grey bird waves its wings", "a man walks in a red jacket & blue trousers"], trainer)
    rules.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    sizes = UMT5Config(vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3)
    UMT5EncoderModel(sizes).save_pretrained(folder / "text_encoder")
    return folder


def from_the_pipeline(base: Path, prompts: Sequence[str], dtype: torch.dtype) -> Tensor:
    """What Wan's own pipeline makes of prompts."""
    encoder = UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=dtype).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base / "tokenizer")
    pipeline = WanPipeline(tokenizer=tokenizer, text_encoder=encoder, vae=None, scheduler=None, transformer=None)
    with torch.no_grad():
        embeddings, _ = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=512, device=torch.device("cpu")
        )
    return embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_umt5_gives_what_wans_pipeline_gives_to_the_bit(base: Path, dtype: torch.dtype) -> None:
    wanted = from_the_pipeline(base, PROMPTS, dtype)
    got = umt5(base, "cpu", dtype).encode(PROMPTS)
    assert (got.shape, got.dtype) == ((5, 512, 24), dtype)
    assert torch.equal(got, wanted)
    assert not got.requires_grad


def test_behind_a_prompts_end_umt5_gives_zeros_and_before_it_none(base: Path) -> None:
    encoder = umt5(base, "cpu", torch.float32)
    tokens = [len(PreTrainedTokenizerFast.from_pretrained(base / "tokenizer")(clean(p)).input_ids) for p in PROMPTS]
    for text, count in zip(encoder.encode(PROMPTS), tokens, strict=True):
        some = text.ne(0).any(dim=1)
        assert some[:count].all()
        assert not some[count:].any()
    assert tokens[1] == 1  # an empty prompt is its end
    assert tokens[3] > 512


def test_umt5_is_not_moved_by_autocast_around_it(base: Path) -> None:
    encoder = umt5(base, "cpu", torch.float32)
    plain = encoder.encode(PROMPTS[:1])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.encode(PROMPTS[:1]), plain)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
@example("&amp;lt;b&amp;gt; &nbsp; x \x1c y \u2003\u200b z\x1f")
@settings(max_examples=200, deadline=None)
def test_prompts_are_cleaned_as_diffusers_does(prompt: str) -> None:
    assert clean(prompt) == prompt_clean(prompt)


def test_weights_under_the_name_that_published_bases_use_give_the_same(base: Path, tmp_path: Path) -> None:
    """They hold `shared.weight` alone, and a config that says nothing is tied: the encoder's must be it all the same,
    not zeros (github.com/huggingface/transformers/pull/43880)."""
    folder = shutil.copytree(base, tmp_path / "base")
    path = folder / "text_encoder/model.safetensors"
    tensors = load_file(path)
    table = next(tensors.pop(name) for name in ("shared.weight", "encoder.embed_tokens.weight") if name in tensors)
    tensors.pop("encoder.embed_tokens.weight", None)
    save_file(tensors | {"shared.weight": table}, path, metadata={"format": "pt"})
    config = folder / "text_encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}))
    wanted = umt5(base, "cpu", torch.float32).encode(PROMPTS[:1])
    assert torch.equal(umt5(folder, "cpu", torch.float32).encode(PROMPTS[:1]), wanted)


def test_umt5s_digest_tells_weights_tokenizers_and_dtypes_apart_and_not_places(base: Path, tmp_path: Path) -> None:
    digests = [umt5(base, "cpu", dtype).digest for dtype in (torch.float32, torch.bfloat16)]
    for part, name in (("text_encoder", "model.safetensors"), ("tokenizer", "tokenizer.json")):
        folder = shutil.copytree(base, tmp_path / part)
        assert umt5(folder, "cpu", torch.float32).digest == digests[0]
        path = folder / part / name
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        digests.append(umt5(folder, "cpu", torch.float32).digest)
    assert len(set(digests)) == 4


def test_umt5_that_is_missing_another_or_a_pickle_is_refused_in_one_sentence(base: Path, tmp_path: Path) -> None:
    def refused(say: str, folder: Path | str) -> None:
        with pytest.raises(UserError, match=say) as caught:
            umt5(folder, "cpu", torch.float32).encode(["a bird"])
        assert "\n" not in str(caught.value)

    (tmp_path / "empty").mkdir()
    refused(r"config\.json is missing", tmp_path / "empty")
    refused("is no folder, and could not be had from the hub", str(tmp_path / "nowhere"))
    other = shutil.copytree(base, tmp_path / "other")
    (other / "text_encoder/config.json").write_text('{"model_type": "t5", "d_model": 24}')
    refused("is of type t5; wanted a whole umt5", other)
    pickled = shutil.copytree(base, tmp_path / "pickled")
    (pickled / "text_encoder/model.safetensors").unlink()
    (pickled / "text_encoder/pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    refused("as safetensors", pickled)
    short = shutil.copytree(base, tmp_path / "short")
    path = short / "text_encoder/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused("holds no UMT5 that can be read", short)
    lacking = shutil.copytree(base, tmp_path / "lacking")
    path = lacking / "text_encoder/model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    refused(r"lack encoder\.final_layer_norm\.weight", lacking)


def test_the_second_use_of_a_prompt_never_runs_the_encoder(base: Path, tmp_path: Path) -> None:
    first, second = (Counting(umt5(base, "cpu", torch.bfloat16)) for _ in range(2))
    asked = [*PROMPTS, PROMPTS[0]]
    made = CachedText(first, tmp_path).encode(asked)
    assert first.asked == list(PROMPTS)
    kept = CachedText(second, tmp_path).encode(asked)
    assert second.asked == []
    assert torch.equal(made, kept)
    alone = torch.cat([first.encoder.encode([prompt]) for prompt in asked])
    assert torch.equal(kept, alone)
    assert kept.dtype == torch.bfloat16
    assert CachedText(second, tmp_path).encode([]).shape == (0, 512, 24)


def test_behind_a_full_cache_the_large_encoder_is_not_even_read(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    wanted = CachedText(umt5(folder, "cpu", torch.float32), tmp_path / "cache").encode(PROMPTS[:2])
    encoder = umt5(folder, "cpu", torch.float32)
    cached = CachedText(encoder, tmp_path / "cache")
    assert cached.digest == encoder.digest
    (folder / "text_encoder/model.safetensors").unlink()
    assert torch.equal(cached.encode(PROMPTS[:2]), wanted)
    with pytest.raises(UserError, match="holds no UMT5"):
        cached.encode(["another"])


def test_a_cached_embedding_takes_no_room_for_the_zeros_behind_its_end(base: Path, tmp_path: Path) -> None:
    CachedText(umt5(base, "cpu", torch.float32), tmp_path).encode(["a bird", ""])
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 512 * 24 * 4 / 10


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
        total = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
        said = {"other shape": total, "other name": total, "other sum": "0" * 64}[damage]
        save_file({"words" if damage == "other name" else "text": rows}, path, metadata={"sha256": said})
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
