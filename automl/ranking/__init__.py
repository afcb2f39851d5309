"""Ranks the trials of a study and reports them; reads the study and its files, never live objects, without torch."""
