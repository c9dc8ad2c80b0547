"""New elements for data sets of an HDF5 file, written by the HDF5 library; a program of its own, not a module.

    python hdf5_child.py FILE < JSON lines: {"path": DATA SET, "data": FILE}

`data` has the elements in C order. The library is C: what a damaged file makes it do ends with this process.
"""

import json
import sys

import numpy as np


def main() -> None:
    """Write each data set, a band of chunks at a time."""
    import h5py

    with h5py.File(sys.argv[1], "r+") as file:
        for line in sys.stdin:
            job = json.loads(line)
            data_set = file[job["path"]]
            raw = np.dtype(f"V{data_set.dtype.itemsize}")
            source = np.memmap(job["data"], raw, "r", shape=data_set.shape or (1,))
            if not data_set.shape:
                data_set[()] = source[0].view(data_set.dtype)
                continue
            step = (data_set.chunks or data_set.shape)[0]
            for start in range(0, data_set.shape[0], step):
                band = np.array(source[start : start + step])
                data_set[start : start + step] = band.view(data_set.dtype)


if __name__ == "__main__":
    main()
