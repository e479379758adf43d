"""Steps of any objective on any batches: loop, checkpoint, log, run folder, devices. It knows no network."""
