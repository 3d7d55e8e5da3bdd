"""What notebook 09 is going to compare: methods, systems, one training and its ledger.

The notebook comes with its table of results, which takes hours to compute.
"""
