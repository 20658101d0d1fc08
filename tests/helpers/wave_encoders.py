"""Tiny speech encoders that read waves, with random weights, as Hugging Face saves them."""

import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 32,
    "max_bucket_distance": 80,
}


def save_wave_encoder(
    folder, kind="wav2vec2", norm="layer", stable=True, normalise=True, **changes
):
    """A random, narrow speech encoder as Hugging Face saves it."""
    torch.manual_seed(0)
    options = {**SIZES, "feat_extract_norm": norm, "do_stable_layer_norm": stable, **changes}
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        do_normalize=normalise, return_attention_mask=norm == "layer"
    ).save_pretrained(folder)
    return model.eval()
