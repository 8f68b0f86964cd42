"""Our Hugging Face folders in transformers: the zero token's logits and its suppression, plain models, and what must be refused.
Usage: interop_transformers.py SOURCE BUILD"""
import torch
import transformers

from interop import check, close, convert, logits, path, prompt, trained

print("transformers", transformers.__version__, "torch", torch.__version__)
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


def load(folder, attention="eager"):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    return model.eval()


def theirs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def zero_token(name, count, *arguments, stock_type=transformers.LlamaForCausalLM):
    model, ids = trained(name, *arguments), prompt(64)
    said = convert(model, path(name + "-hf"), "--to", "hf")
    full = said["prompt_prefix"] + ids
    own = logits(model, ids)
    for attention in "eager", "sdpa":
        stock = load(path(name + "-hf"), attention)
        check(type(stock) is stock_type and len(said["prompt_prefix"]) == count, f"{name}: a stock {said['architecture']}, {attention}")
        close(own, theirs(stock, full)[count:, :-1], 1e-4, f"  {count} zero tokens, 64 tokens")
    # the zero token is BOS, and generation_config.json keeps it from being generated, even where it would win
    zero = said["zero_token"]
    check(stock.config.bos_token_id == zero and stock.generation_config.suppress_tokens == [zero], f"  BOS is {zero}, and suppressed")
    with torch.no_grad():
        stock.get_output_embeddings().weight[:zero] = 0
    text = stock.generate(torch.tensor([full]), max_new_tokens=4, do_sample=False)[0].tolist()
    check(zero not in text[len(full):], "  not generated where all logits are 0")


zero_token("softmax1", 1, "--attention", "softmax1", "--no-bos")
zero_token("softmax_n", 2, "--attention", "softmax_n:n=2", "--no-bos", "--kv-heads", 2, "--tied", "no")
zero_token("three", 3, "--attention", "softmax_n:n=3", "--no-bos")
zero_token("qk_norm", 1, "--attention", "softmax1", "--no-bos", "--qk-norm", "yes", stock_type=transformers.Qwen3ForCausalLM)

for name, arguments in {"llama": [], "gpt2": ["--model", "gpt2-nano"], "opt": ["--model", "opt-mini", "--width", 64, "--layers", 2, "--heads", 2]}.items():
    model, ids = trained("plain-" + name, *arguments, steps=20), prompt(64, 1)
    said = convert(model, path(name), "--to", "hf")
    close(logits(model, ids), theirs(load(path(name)), ids), 1e-4, f"{name}, read by {said['architecture']}")

model = trained("bpe", "--tokens", "bpe", "--vocab", 300, "--attention", "softmax_n:n=2", "--no-bos", "--context", 32, steps=2)
said = convert(model, path("bpe-hf"), "--to", "hf")
tokenizer = transformers.AutoTokenizer.from_pretrained(path("bpe-hf"))
plain = transformers.PreTrainedTokenizerFast(tokenizer_file=path("bpe", "tokenizer.json"))
text = "Once upon a time, there was a caf\u00e9."
check(said["tokenizer"] and tokenizer(text).input_ids == said["prompt_prefix"] + plain(text).input_ids, "AutoTokenizer puts both zero tokens first")
check(tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text, "  and the text comes back")

for variant in "softmax1", "sink", "clipped", "gated":
    model = trained("own-" + variant, "--attention", variant, steps=1)
    said = convert(model, path(variant + "-off"), "--to", "hf", "--zero-token", "off")
    check(said["architecture"] == "ghostmax_llama", f"{variant} is {said['architecture']}")
    for folder in model, path(variant + "-off"):
        try:
            load(folder)
        except (ValueError, KeyError) as error:
            check("ghostmax_llama" in str(error), "  refused: " + str(error).split("\n")[0][:100])
        else:
            check(False, f"{folder} is loaded as {variant} were softmax")
