"""Advice that is tried: a run is forked for each remedy, and the seeds vote.

remedy.py       what a remedy is
changing.py     remedies that change the net
training.py     remedies that change how it is trained
remedies.py     all of them
case.py         what is known of a net
wrappers.py     what some remedies put around a cell
fork.py         a copy of a run that goes on by itself
trying.py       mg.flow.prescribe
prescription.py what it found, in words
signs.py        the sign test
known.py        what was found on small tasks, from which reports take their advice
"""
