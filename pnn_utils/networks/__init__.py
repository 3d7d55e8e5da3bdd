"""The paper's architectures, built from physical layers: one file a kind of signal."""
