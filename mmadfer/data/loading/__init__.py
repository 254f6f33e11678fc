"""From a store to batches on a device: samplers, decoding, augmentation."""
