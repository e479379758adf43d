# What a run says while it goes on: Snakemake's jobs, or one line per stage. The log file of Snakemake has all jobs.
import atexit
import logging

from snakemake_interface_logger_plugins.common import LogEvent

from hvlabel.inspect.live import LiveRun, Watcher, between_lines


class StageLines(logging.Filter):
    """Lets warnings and errors through, and starts a watcher in place of everything that is said about jobs."""

    watcher = None

    def filter(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and self.watcher is None:
            planned = [
                (job.rule.name, [Path(path) for path in job.output])
                for job in workflow.dag.needrun_jobs()
            ]
            run = LiveRun(LAYOUT, SCAN.images, planned)
            training_log = LAYOUT.log("pretrain", CONFIG.pretrain.run)
            self.watcher = Watcher(run, sys.stderr, training_log)
            atexit.register(self.close)
        elif event == LogEvent.JOB_INFO and self.watcher is not None:
            outputs = [Path(path) for path in record.output]
            self.watcher.run.start(record.rule_name, outputs, time.time())
        nothing_to_do = "Nothing to be done" in record.getMessage()
        return record.levelno >= logging.WARNING or nothing_to_do

    def close(self):
        """The last lines, before anything else is said."""
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None


STAGE_LINES = StageLines()
if SHOWN == "stages" and workflow.is_main_process and not DRY:
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            # before Snakemake's own filter, which may drop the events that this one counts by
            handler.filters.insert(0, STAGE_LINES)
            emit = handler.emit

            def emit_above(record, emit=emit):
                with between_lines(sys.stderr):
                    emit(record)

            handler.emit = emit_above
