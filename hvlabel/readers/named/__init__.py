"""Files that hold several named arrays (MATLAB, HDF5, NetCDF, npz): which of them is the cube, and what the others say about it."""
