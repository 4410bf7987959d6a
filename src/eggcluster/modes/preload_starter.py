"""Starts app workers as forks of a template that has imported the application. Runs in the master; Linux only."""

import logging
import os
import time

import msgspec

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.model.messages.role import Role
from eggcluster.modes.forked_worker import ForkedWorker
from eggcluster.modes.preload_handle import PreloadTemplate
from eggcluster.modes.process import place_now
from eggcluster.modes.template_handle import Forkable, TemplateHandle, TemplateUser
from eggcluster.modes.template_starter import TemplateStarter

REPLACE_INTERVAL = 10.0  # seconds, at least, between two templates that are begun without a worker that waits

_logger = logging.getLogger("eggcluster.master")


class PreloadStarter(TemplateStarter):
    """Holds the preload template, beside the base template that has forked it and forks the agent.

    The first app worker after a reload begins a new template. All workers come from that one until the reload has
    ended: a reload that fails leaves the old one, which is kept until then. A template that has died is replaced at
    once, and one that cannot import the application only forks the workers that waited for it, to report why.
    """

    _kept: PreloadTemplate | None = None  # of the version that serves
    _next: PreloadTemplate | None = None  # of a reload that is under way; also the first one, until it is loaded
    _newest = -1  # the reloads before the newest one was begun
    _is_for_reload = False  # the newest one; otherwise it replaces one
    _replaced_at = float("-inf")  # when the last one that had died was replaced
    _directory = ""  # of the newest one; if it was removed, a new one begins in what has taken its place
    _unfit_at: int | None = None  # the reloads before it turned out that this version cannot be forked

    def template_for(self, spec: WorkerSpec) -> TemplateHandle | None:
        if spec.role == Role.AGENT.value or self._unfit_at == spec.reloads:
            return self.base_for(spec)
        if spec.reloads > self._newest or self._living is None or not os.path.isdir(self._directory):
            self._begin(spec)
        return self._living or self.base_for(spec)

    def end_reload(self, *, failed: bool) -> None:
        if self._next is None or not self._next.is_loaded:
            return
        if failed and self._kept is not None and not self._kept.is_dead:
            self._next.retire()
            self._next = None
        else:
            self._promote(self._next)

    @property
    def _living(self) -> PreloadTemplate | None:
        return next((each for each in (self._next, self._kept) if each is not None and not each.is_dead), None)

    def _begin(self, spec: WorkerSpec) -> None:
        """Begin a new template; if there is one of an earlier reload already, that is the one to keep."""
        if self._next is not None and self._next.is_loaded:
            self._promote(self._next)
        elif self._next is not None:
            self._next.retire()
        self._is_for_reload = spec.reloads > self._newest
        self._newest, self._next = max(spec.reloads, self._newest), None
        spec = msgspec.structs.replace(spec, reloads=self._newest)  # it may be that of an earlier template
        self._directory = os.path.realpath(place_now(spec.options).directory or ".")
        base = self.base_for(spec)
        if base is None:
            return
        user = TemplateUser(self.on_settled, self._on_unfit_preload, self._start_without, lambda: self._on_death(spec))
        try:
            template = PreloadTemplate(spec, user, self._on_loaded)
        except OSError:
            return
        self._next = template
        self.templates.append(template)
        try:
            base.ask(template)
        except OSError as error:
            template.refused(error)

    def _promote(self, template: PreloadTemplate) -> None:
        """Keep `template`, and end the one that was kept."""
        if self._kept is not None:
            self._kept.retire()
        self._kept, self._next = template, None

    def _on_loaded(self, template: PreloadTemplate) -> None:
        if template is not self._next:
            return
        if template.has_failed:
            self._next = None
            template.retire()
        elif not self._is_for_reload or self._kept is None or self._kept.is_dead:
            self._promote(template)

    def _on_death(self, spec: WorkerSpec) -> None:
        """Replace a template that has died, so that the next worker need not wait for an import. One that keeps dying
        is left to the next worker."""
        now = time.monotonic()
        if self._living is None and now - self._replaced_at >= REPLACE_INTERVAL:
            self._replaced_at = now
            self._begin(spec)

    def _on_unfit_preload(self, why: str) -> None:
        text = "app workers are started without --preload, each imports the application: the template has %s"
        _logger.warning(f"{text}; --preload-threads NAME allows a thread", why.removeprefix("it has "))
        self._unfit_at = self._newest
        for template in (self._next, self._kept):
            if template is not None:
                template.retire()
        self._next = self._kept = None

    def _start_without(self, order: Forkable) -> None:
        """Let the base template fork a worker that a preload template does not."""
        if order.settled.is_set() or not isinstance(order, ForkedWorker):
            return
        base = self.base_for(order.spec)
        try:
            if base is not None:
                order.renew_channel()
                base.ask(order)
                return
        except OSError:
            pass
        order.start_itself()
