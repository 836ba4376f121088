"""Everything that makes a checkpoint. Import its modules by name: importing this package computes nothing."""
