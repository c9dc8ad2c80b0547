"""The architecture of `m3_dimensions`: convolutions, poolings and their kin in one and three dimensions.

    python make_dimensions.py OUT/m3_dimensions.arch.json
    python make.py OUT/m3_dimensions.arch.json OUT/m3_dimensions

Written for Keras 3.
"""

import sys

from keras import Input, Model, layers


def line(x):
    """One dimension: (batch, 12, 6)."""
    yield layers.Flatten()(layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu", name="causal")(x))
    yield layers.Flatten()(layers.Conv1D(4, 3, groups=2, strides=2, padding="same", name="grouped")(x))
    yield layers.Flatten()(layers.SeparableConv1D(5, 3, depth_multiplier=2, name="separable")(x))
    yield layers.Flatten()(layers.DepthwiseConv1D(3, depth_multiplier=2, name="depthwise")(x))
    yield layers.Flatten()(layers.Conv1DTranspose(3, 4, strides=2, padding="same", name="transposed")(x))
    y = layers.UpSampling1D(2)(layers.ZeroPadding1D((1, 2))(layers.Cropping1D((2, 1))(x)))
    yield layers.GlobalMaxPooling1D()(layers.MaxPooling1D(3, 2, padding="same")(y))
    yield layers.GlobalAveragePooling1D()(layers.AveragePooling1D(2)(layers.SpatialDropout1D(0.5)(y)))


def space(x):
    """Three dimensions: (batch, 5, 4, 6, 2)."""
    y = layers.Conv3D(3, (2, 3, 2), strides=(1, 1, 2), padding="same", activation="tanh", name="conv3d")(x)
    yield layers.Flatten()(layers.MaxPooling3D(2, padding="same")(y))
    yield layers.GlobalMaxPooling3D()(layers.AveragePooling3D((2, 1, 2), padding="same")(y))
    y = layers.Conv3DTranspose(2, 3, strides=(2, 1, 1), padding="valid", name="transposed3d")(x)
    yield layers.GlobalAveragePooling3D()(y)
    y = layers.UpSampling3D((1, 2, 1))(layers.ZeroPadding3D(((1, 0), (0, 2), (1, 1)))(layers.Cropping3D(1)(x)))
    yield layers.Flatten()(y)
    yield layers.Flatten()(layers.ConvLSTM1D(3, 2, name="convlstm1d")(layers.Reshape((5, 4, 12))(x)))
    yield layers.Flatten()(layers.ConvLSTM3D(2, 2, name="convlstm3d")(layers.Reshape((5, 2, 2, 3, 4))(x)))


def main():
    """Write the architecture."""
    one, three = Input((12, 6), name="line"), Input((5, 4, 6, 2), name="space")
    parts = [layers.Dense(3, name="dense_%d" % i)(y) for i, y in enumerate([*line(one), *space(three)])]
    joined = layers.Concatenate()([layers.GlobalMaxPooling1D()(one), *parts])
    model = Model([one, three], [layers.Dense(4, name="out")(layers.GaussianNoise(0.1)(joined)), *parts])
    with open(sys.argv[1], "w") as file:
        file.write(model.to_json())


if __name__ == "__main__":
    main()
