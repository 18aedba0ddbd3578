"""UMT5 against Wan's own pipeline, small and random, with a tokenizer made here; and behind the cache."""

import json
import shutil
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
from model import umt5 as room
from model.text import CachedText, umt5
from model.umt5 import clean

PROMPTS = (
    "a grey bird with colourful feathers, waving its wings",
    "",
    "  a man\t in a red   jacket &amp;amp; blue trousers\n walks ",
    "bird " * 700,
    "übergroß: 鳥 waves",
)


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


def test_prompts_mended_by_ftfy_are_kept_apart_from_those_that_are_not(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wan's pipeline uses ftfy if it is installed: the same prompt then gives another embedding."""
    digests = set()
    for mender, version in ((None, None), (str.upper, "6.3.1"), (str.upper, "7.0")):
        monkeypatch.setattr(room, "_mend", mender)
        monkeypatch.setattr(room, "_MENDER", version)
        digests.add(umt5(base, "cpu", torch.float32).digest)
        assert clean(" a bird ") == ("A BIRD" if mender else "a bird")
    assert len(digests) == 3


def test_an_embedding_that_transformers_left_at_zeros_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers 5.0 and 5.1 did to Wan's weights: two tables, of which only one was read."""
    read = UMT5EncoderModel.from_pretrained

    def untied(*args: object, **kwargs: object) -> object:
        encoder, info = read(*args, **kwargs)
        zeros = torch.zeros_like(encoder.shared.weight)
        encoder.encoder.embed_tokens = torch.nn.Embedding.from_pretrained(zeros)
        return encoder, info

    monkeypatch.setattr(UMT5EncoderModel, "from_pretrained", untied)
    with pytest.raises(UserError, match="was not read by transformers"):
        umt5(base, "cpu", torch.float32).encode(["a bird"])


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


def test_behind_a_full_cache_the_large_encoder_is_not_even_read(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    first = umt5(folder, "cpu", torch.bfloat16)
    wanted = torch.cat([first.encode([prompt]) for prompt in PROMPTS])
    assert torch.equal(CachedText(first, tmp_path / "cache").encode(PROMPTS), wanted)
    encoder = umt5(folder, "cpu", torch.bfloat16)
    cached = CachedText(encoder, tmp_path / "cache")
    assert cached.digest == encoder.digest
    (folder / "text_encoder/model.safetensors").unlink()
    kept = cached.encode(PROMPTS)
    assert torch.equal(kept, wanted)
    assert kept.dtype == torch.bfloat16
    with pytest.raises(UserError, match="holds no UMT5"):
        cached.encode(["another"])


def test_a_cached_embedding_takes_no_room_for_the_zeros_behind_its_end(base: Path, tmp_path: Path) -> None:
    CachedText(umt5(base, "cpu", torch.float32), tmp_path).encode(["a bird", ""])
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 512 * 24 * 4 / 10
