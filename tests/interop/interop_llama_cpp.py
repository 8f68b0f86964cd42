"""Our GGUF files in llama.cpp: the zero token's logits, plain models in every dtype, a published story, and what must be refused.
Usage: interop_llama_cpp.py SOURCE BUILD"""
import llama_cpp
import numpy
import transformers

from interop import check, close, convert, data, logits, path, program, prompt, run, trained

print("llama-cpp-python", llama_cpp.__version__)
F32 = 0  # ggml's number of the type
stock_params = llama_cpp.llama_model_default_params


def plain_params():
    """Without weights packed anew for AMX: that path ends in a segmentation fault for q8_0 where AMX is (llama-cpp-python 0.3.36), whatever
    the model."""
    params = stock_params()
    params.use_extra_bufts = False
    return params


llama_cpp.llama.llama_cpp.llama_model_default_params = plain_params


def load(file, length, flash=False):
    # llama.cpp's default cache is f16: keys and values are asked for in f32
    return llama_cpp.Llama(file, n_ctx=length, n_batch=length, logits_all=True, type_k=F32, type_v=F32, flash_attn=flash, verbose=False,
                           n_threads=1, n_threads_batch=1)


def theirs(file, ids, flash=False):
    model = load(file, len(ids), flash)
    model.eval(ids)
    return numpy.array(model.scores[:len(ids)])


def zero_token(name, count, *arguments, stock_name="llama"):
    """The first V logits behind `count` zero tokens are our model's own, without them."""
    model, ids = trained(name, *arguments), prompt(64)
    said = convert(model, path(name + ".gguf"), "--to", "gguf")
    check(said["prompt_prefix"] == [said["zero_token"]] * count and said["architecture"] == stock_name, f"{name}: {stock_name}, {said['prompt_prefix']}")
    own = logits(model, ids)
    full = said["prompt_prefix"] + ids
    stock = theirs(path(name + ".gguf"), full)
    close(own, stock[count:, :-1], 1e-4, f"{name}, {count} zero tokens, 64 tokens")
    check(not stock[:, -1].any() and not stock[:count].any(), "the zero token's logit is 0, and so is all that follows only zero tokens")
    model = load(path(name + ".gguf"), 16)
    check(model.tokenize(b"Hello", add_bos=True) == [said["zero_token"], *b"Hello"], "  its tokenizer begins a text with the zero token")
    # llama.cpp's flash attention rounds keys and values to f16 whatever the cache's type (llama-graph.cpp casts them)
    close(own, theirs(path(name + ".gguf"), full, flash=True)[count:, :-1], 2e-2, "  with flash attention (f16 inside)")
    # the test can see: without them it is another model
    lost = numpy.abs(own - theirs(path(name + ".gguf"), ids)[:, :-1]).max()
    check(lost > 1e-2, f"  without the zero tokens logits are off by {lost:.2g}")


zero_token("softmax1", 1, "--attention", "softmax1", "--no-bos")
zero_token("softmax_n", 2, "--attention", "softmax_n:n=2", "--no-bos", "--kv-heads", 2, "--tied", "no")
zero_token("three", 3, "--attention", "softmax_n:n=3", "--no-bos")
zero_token("qk_norm", 1, "--attention", "softmax1", "--no-bos", "--qk-norm", "yes", stock_name="qwen3")

# llama.cpp looks GELU up in a table of f16 numbers: gpt2 agrees to what that leaves
for name, exact, arguments in ("llama", 1e-4, []), ("gpt2", 1e-3, ["--model", "gpt2-nano"]):
    model, ids = trained("plain-" + name, *arguments), prompt(64, 1)
    own = logits(model, ids)
    size = numpy.abs(own).max()
    # f16 keeps 11 bits of a weight, bf16 8; q8_0 8, and llama.cpp rounds activations to it too. bf16: activations as well
    for dtype, error in {"f32": exact / size, "f16": 0.003, "bf16": 0.02, "q8_0": 0.02}.items():
        file = path(f"plain-{name}-{dtype}.gguf")
        convert(model, file, "--to", "gguf", "--dtype", dtype)
        stock = theirs(file, ids)
        close(own, stock, error * size, f"{name} {dtype}")
        same = (own.argmax(1) == stock.argmax(1)).mean()
        check(same >= (1 if dtype == "f32" else 0.9), f"  greedy tokens agree in {same:.0%}")

done = run("convert", trained("gpt2-softmax1", "--model", "gpt2-nano", "--attention", "softmax1", steps=2), "--to", "gguf", "--out", path("no"))
check(done.returncode == 1 and "position embeddings" in done.stderr, "gpt2 with softmax1 is refused: " + done.stderr.strip())
said = convert(path("softmax1"), path("own.gguf"), "--to", "gguf", "--zero-token", "off")
try:
    load(path("own.gguf"), 8)
    check(False, f"llama.cpp loads {said['architecture']}")
except ValueError as error:
    check(said["architecture"] == "ghostmax_llama", f"llama.cpp refuses {said['architecture']}")
close(logits(path("softmax1"), prompt(64)), logits(path("own.gguf"), prompt(64)), 0, "and this program reads it as it was")

text = "Once upon a time, there was a caf\u00e9."
model = trained("bpe", "--tokens", "bpe", "--vocab", 300, "--attention", "softmax1", "--no-bos", "--context", 32, steps=2)
said = convert(model, path("bpe.gguf"), "--to", "gguf")
plain = transformers.PreTrainedTokenizerFast(tokenizer_file=path("bpe", "tokenizer.json"))
check(load(path("bpe.gguf"), 16).tokenize(text.encode()) == said["prompt_prefix"] + plain(text).input_ids, "a trained BPE cuts texts as tokenizers does")

story = open(data("models", "stories260K.expected.txt")).read()
print("stories260K")
convert(data("models", "stories260K.bin"), path("stories.gguf"), "--to", "gguf", "--tokenizer", data("tokenizers", "tok512.bin"))
model = load(path("stories.gguf"), 256)
ids = [1]
for _ in range(255):
    model.eval(ids[-1:])
    ids.append(int(model.scores[model.n_tokens - 1].argmax()))
text = model.detokenize(ids).decode().strip()
check(len(text) > 400 and story.strip().startswith(text) or text.startswith(story.strip()), f"stories260K tells the published story: {text[:60]}...")
