"""Write a model's files and golden arrays with the Keras that is installed, whichever it is.

    python make.py keras2.2.4-tf1.13/m2_recurrent_ra1.arch.json OUT/m2_recurrent_ra1
    python make.py --api tf.keras model.h5 OUT/model            (the architecture of a whole model)

Files: STEM.h5 (with optimizer state), STEM.weights_only.h5, STEM.keras and STEM.weights.h5 as far as the version
writes them, STEM.arch.json, STEM.arch.yaml, and STEM.golden.npz: `w000`, `w001` ... are `get_weights()`, `in_0` ...
random inputs, `out_0` ... what `predict()` makes of them. Weights get noise and a few steps of training, so that no
bias is zero and no statistic trivial.

It keeps to what Keras 1.2.2 on Python 3.6 and Keras 3 have in common.
"""

import argparse
import importlib
import os

import numpy as np


def load(keras, path):
    """A model from an architecture in JSON or YAML, or from a whole model."""
    if path.endswith((".h5", ".keras")):
        return keras.models.load_model(path)
    with open(path) as file:
        text = file.read()
    return (keras.models.model_from_json if path.endswith(".json") else keras.models.model_from_yaml)(text)


def some(shape, dtype, rng, tokens):
    """Random numbers for an input; integers are tokens of a small vocabulary."""
    shape = (5,) + tuple(n or 6 for n in shape[1:])
    if "int" in str(dtype):
        return rng.randint(0, tokens, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def shaken(weights, rng):
    """Weights with noise; what must stay positive (variances, counts) grows."""
    noisy = []
    for w in weights:
        w = np.asarray(w)
        noise = 0.1 * rng.normal(size=w.shape)
        noisy.append(w + (np.abs(noise) if (w >= 0.99).all() else noise).astype(w.dtype) if w.dtype.kind == "f" else w)
    return noisy


def trained(model, inputs, rng):
    """A few steps towards random targets, so that the optimizer has slots."""
    model.compile("adam", "mse")
    outputs = model.predict(inputs)
    for _ in range(2):
        model.train_on_batch(inputs, [rng.normal(size=o.shape) for o in outputs] if isinstance(outputs, list)
                             else rng.normal(size=outputs.shape))


def write(model, inputs, stem):
    """Every file that this version writes, and the golden arrays."""
    golden = {"w%03d" % i: np.asarray(w) for i, w in enumerate(model.get_weights())}
    golden.update(("in_%d" % i, x) for i, x in enumerate(inputs))
    outputs = model.predict(inputs if len(inputs) > 1 else inputs[0])
    golden.update(("out_%d" % i, o) for i, o in enumerate(outputs if isinstance(outputs, list) else [outputs]))
    np.savez_compressed(stem + ".golden.npz", **golden)
    for ending, save in (
        (".h5", lambda name: model.save(name)),
        (".keras", lambda name: model.save(name)),
        (".weights_only.h5", lambda name: model.save_weights(name)),
        (".weights.h5", lambda name: model.save_weights(name)),
        (".arch.json", lambda name: put(name, model.to_json())),
        (".arch.yaml", lambda name: put(name, model.to_yaml())),
    ):
        try:
            save(stem + ending)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
            print("%s: not in this version: %s" % (stem + ending, str(error).splitlines()[0][:80]))


def put(name, text):
    """Write a text file."""
    with open(name, "w") as file:
        file.write(text)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--api", default="keras", choices=["keras", "tf.keras"])
    parser.add_argument("--tokens", type=int, default=5, help="the vocabulary of integer inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("model")
    parser.add_argument("stem")
    args = parser.parse_args()
    keras = importlib.import_module("keras") if args.api == "keras" else importlib.import_module("tensorflow").keras
    importlib.import_module("keras.models") if args.api == "keras" else None
    rng = np.random.RandomState(args.seed)
    model = load(keras, args.model)
    inputs = [some(tuple(x.shape) if hasattr(x, "shape") else x._keras_shape, x.dtype, rng, args.tokens)
              for x in model.inputs]
    model.set_weights(shaken(model.get_weights(), rng))
    trained(model, inputs if len(inputs) > 1 else inputs[0], rng)
    os.makedirs(os.path.dirname(os.path.abspath(args.stem)), exist_ok=True)
    write(model, inputs, args.stem)


if __name__ == "__main__":
    main()
