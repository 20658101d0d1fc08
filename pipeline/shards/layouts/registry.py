"""The layouts by name, in the order in which a source is tried."""

from collections.abc import Mapping

from pipeline.shards.layouts import audiofolder, kaldi, lhotse, listings, read_speech, timit
from pipeline.shards.layouts.layout import Layout

LAYOUTS: Mapping[str, Layout] = {
    "kaldi": kaldi.KALDI,
    "lhotse": lhotse.LHOTSE,
    "libritts": read_speech.LIBRITTS,
    "mls": read_speech.MLS,
    "vctk": read_speech.VCTK,
    "timit": timit.TIMIT,
    "listing": listings.LISTED,
    "audiofolder": audiofolder.AUDIOFOLDER,
}
