"""Files of several named arrays (MATLAB, HDF5, NetCDF, npz): which is the cube, and what the others say about it."""
