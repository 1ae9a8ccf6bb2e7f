"""The supervisor of one worker process: a separate process that registers its workers and watches its stages."""
