"""Whisper's constants, each derived exactly, and aliases that carry units in signatures.

Source: Radford et al. 2022 ("Robust speech recognition via large-scale weak supervision"),
section 2.2: 80 log-mel channels from 25 ms windows every 10 ms over 16 kHz audio padded to
30 s, then two convolutions, the second of stride 2.
"""

from typing import TypeAlias

Seconds: TypeAlias = float
Hertz: TypeAlias = int
Samples: TypeAlias = int
Frames: TypeAlias = int


def exact_div(dividend: int, divisor: int) -> int:
    """Divide and refuse a remainder, so that no constant below is silently rounded.

    Raises:
        ValueError: the division leaves a remainder.
    """
    quotient, remainder = divmod(dividend, divisor)
    if remainder:
        raise ValueError(f"{dividend} is not a multiple of {divisor}")
    return quotient


SAMPLE_RATE_HZ: Hertz = 16_000
WINDOW_SECONDS = 30  # the encoder always sees 30 s; shorter audio is padded with zeros
CLIP_SECONDS = 15  # the longest clip unless `shard --clip-seconds` says otherwise (the paper's)
MOST_CLIP_SECONDS = 120  # the most that it may say: decoded clips of a batch lie in memory

N_FFT: Samples = 400  # 25 ms
HOP_LENGTH: Samples = 160  # 10 ms

WINDOW_SAMPLES: Samples = WINDOW_SECONDS * SAMPLE_RATE_HZ  # 480,000
CLIP_SAMPLES: Samples = CLIP_SECONDS * SAMPLE_RATE_HZ  # 240,000

WINDOW_MEL_FRAMES: Frames = exact_div(WINDOW_SAMPLES, HOP_LENGTH)  # 3,000
SAMPLES_PER_ENCODER_FRAME: Samples = 2 * HOP_LENGTH  # 320: the second convolution has stride 2
WINDOW_ENCODER_FRAMES: Frames = exact_div(WINDOW_SAMPLES, SAMPLES_PER_ENCODER_FRAME)  # 1,500
CLIP_ENCODER_FRAMES: Frames = exact_div(CLIP_SAMPLES, SAMPLES_PER_ENCODER_FRAME)  # 750
