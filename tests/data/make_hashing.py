"""The files and golden arrays of `m5_hashing` and `m5_crossing`: hashes of texts and of whole numbers.

    python make_hashing.py OUT [tf.keras]

Written for Keras 3 and tf.keras 2.15. Numbers of bins near 2**63 show nearly all of a hash, small ones what a layer
makes of it.
"""

import importlib
import os
import sys

import numpy as np
import tensorflow as tf
from make import put

MANY = 2**61 - 1  # a prime
LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 80, 127, 128, 129, 192, 200]


def texts(rng):
    """A text of every length, in columns of four, of letters of one, two and three bytes."""
    letters = list("abcdefghijklmnopqrstuvwxyz ,.0123456789")
    found = ["".join(rng.choice(letters, n)) for n in LENGTHS]
    found += ["", "é", "日本", "größer als ein Block aus 64 Bytes: " + "日本語" * 5]
    return np.array(found).reshape(-1, 4)


def hashing(layers, api, old):
    """Hashing alone: (batch, 4) texts, (batch, 4) numbers, (batch, 1) numbers."""
    words, numbers = api.Input((4,), dtype="string", name="words"), api.Input((4,), dtype="int64", name="numbers")
    one = api.Input((1,), dtype="int32", name="one")

    def own(name, bins, x=words, **settings):
        return layers.Hashing(bins, name=name, **settings)(x)

    codes = [
        own("plain", MANY), own("salted", MANY, salt=[133, 2**40 + 7]), own("one_salt", MANY, salt=77),
        own("masked", 50, mask_value=""), own("masked_salted", 50, mask_value="é", salt=[1, 2]),
        own("one_bin", 1, mask_value=""), own("number", MANY, numbers), own("number_salted", MANY, numbers, salt=5),
        own("number_masked", 20, numbers, mask_value=3), own("single", 11, one),
    ]  # fmt: skip
    single = own("single_hot", 5, one, output_mode="one_hot")
    parts = [own("several", 9, output_mode="multi_hot"), own("counts", 9, numbers, output_mode="count"), single]
    parts.append(own("counts_masked", 6, numbers, output_mode="count", mask_value=3, salt=9))
    dense = layers.Dense(3, name="out")(layers.Concatenate(name="joined")(parts))
    inputs = [words, numbers, one]
    if not old:  # which refuses floats and more than two axes
        inputs += [api.Input((2, 3), dtype="int64", name="grid"), api.Input((1, 1), dtype="int64", name="alone")]
        inputs += [api.Input((2,), name="floats"), api.Input((2,), dtype="bool", name="bools")]
        *_, grid, alone, floats, bools = inputs
        modes = ("one_hot", "multi_hot", "count")
        codes += [own("grid_" + mode, 5, grid, output_mode=mode, mask_value=2) for mode in modes]
        codes += [own("alone_hot", 5, alone, output_mode="one_hot"), own("float", MANY, floats, mask_value=3)]
        codes.append(own("bool", MANY, bools))
    return api.Model(inputs, [dense, *parts, *codes])


def crossing(layers, api, old):
    """HashedCrossing: (batch, 1) texts and numbers."""
    x, y = api.Input((1,), dtype="string", name="x"), api.Input((1,), dtype="int64", name="y")
    z = api.Input((1,), dtype="string", name="z")
    hot = layers.HashedCrossing(7, output_mode="one_hot", name="hot")([y, x])
    pairs = {"two": [x, y], "turned": [y, x], "numbers": [y, y], "texts": [x, z]}
    if old:  # Keras 3 builds models of pairs alone
        pairs["three"] = [x, y, z]
    codes = [layers.HashedCrossing(MANY, name=name)(pair) for name, pair in pairs.items()]
    codes.append(layers.HashedCrossing(10, name="few")([x, z]))
    return api.Model([x, y, z], [layers.Dense(3, name="out")(hot), hot, *codes])


def numbers_of(rng, shape):
    """Small numbers, large ones, and the outermost."""
    found = rng.randint(-10, 10, shape)
    found[1] = rng.randint(-(2**62), 2**62, shape[1:])
    found[0, 0], found[2, 0], found[3, 0] = -(2**63), 2**63 - 1, 3
    return found


def write(model, inputs, stem):
    """The files that hold whole models, weights and architecture, and the golden arrays."""
    golden = {"w%03d" % i: np.asarray(w) for i, w in enumerate(model.get_weights())}
    golden.update(("in_%d" % i, x) for i, x in enumerate(inputs))
    outputs = model.predict([tf.constant(x) for x in inputs])
    golden.update(("out_%d" % i, o) for i, o in enumerate(outputs))
    np.savez_compressed(stem + ".golden.npz", **golden)
    model.save(stem + ".h5")
    model.save(stem + ".keras")
    model.save_weights(stem + ".weights.h5")
    put(stem + ".arch.json", model.to_json())


def main():
    """The command line."""
    folder, old = sys.argv[1], sys.argv[2:] == ["tf.keras"]
    api = tf.keras if old else importlib.import_module("keras")
    api.utils.set_random_seed(4)
    rng = np.random.RandomState(4)
    words = texts(rng)
    rows = len(words)
    inputs = [words, numbers_of(rng, (rows, 4)), rng.randint(-5, 5, (rows, 1)).astype("int32")]
    inputs += [rng.randint(-5, 5, (rows, *shape)) for shape in ((2, 3), (1, 1))]
    inputs += [rng.normal(0, 4, (rows, 2)).astype("float32"), rng.randint(0, 2, (rows, 2)) > 0]
    inputs[-2][:2, 0] = 3, 3.5
    model = hashing(api.layers, api, old)
    write(model, inputs[: len(model.inputs)], os.path.join(folder, "m5_hashing"))
    many = words.reshape(-1, 1)
    inputs = [many, numbers_of(rng, many.shape), rng.permutation(many)]
    write(crossing(api.layers, api, old), inputs, os.path.join(folder, "m5_crossing"))


if __name__ == "__main__":
    main()
