"""All that is Celery, for clients and workers, and why it is here.

Celery moves the messages, runs the pool of threads, and carries questions to workers. Since workers
are ordinary Celery workers, the tools that exist for those can be used: `celery inspect` and
Flower, and `celery control` where a machine allows it (`workers/remote_control.py`). KEDA scales by
what the store counts: the broker's lists are nearly always empty, because only what a free slot can
take is published.

The store (`clinvk/store`) decides what is true: which tasks exist, which of them may run, who has
which, how each ended. Celery is never asked. A message says no more than "there is dispatch 2 of
task 7 in run R"; the worker then claims the task from the store, and a message that is late, lost
or delivered twice changes nothing. In Celery's terms a run is a chord, whose tasks are published
by the store, at most `max_parallel` at a time, and whose body closes the run.

What clinvk overrides, each with what would break without it:

`app`             the settings. Each has its reason beside it. With Celery's defaults, a worker
                  would fetch messages that it has no free slot for while other workers are idle,
                  store what each task returns, and give up after a hundred attempts to reach a
                  broker that is down.
`message`         the message of a task, made once per run as text with placeholders, so that the
                  store publishes a task in the same script that admits it. Were it published by a
                  Python process, one that dies in between would leave a task that is counted as
                  running and that no worker ever gets.
`transport`       kombu's transport for Redis, without its copy of each message that is taken. It
                  would deliver a task again after the visibility timeout: every task of more than
                  an hour would run twice. Workers could take no message while Redis is full. It
                  also drops what is no message of clinvk's or Celery's (`message_checks`): anyone
                  who reaches the broker could end all workers with one that Celery cannot read.
`result_backend`  Celery's result backend for Redis, which takes the store's count for a chord's.
                  Celery's own would keep what each task returns, count it a second time, and fail
                  the chord for a task that was revoked.
`masked`          Celery's connections, whose URLs are shown without tokens and passwords.
`pool`            Celery's pool of threads, which wakes the event loop when a task ends. Otherwise a
                  slot stays empty for up to a second after each task.
`consumer`        Celery's consumer, which acknowledges without a turn of the event loop and takes
                  the next message in the thread whose task has just ended. Without it, each task
                  costs a round trip and three turns of the loop more, which very short tasks show.

The pool and the consumer only save time: `-P threads` and `-P solo` work as well. `dispatcher` is
no override, but what uses all this: it does what the store does, and has Celery do what follows.

In `workers/` Celery appears in three places: the application of workers (`app`), its tasks
(`tasks`), and the bootstep that starts and stops what is ours in a worker (`bootstep`).
"""
