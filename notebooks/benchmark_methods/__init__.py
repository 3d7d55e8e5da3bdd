"""What notebook 09 compares: methods of training, systems, one training and its ledger."""
