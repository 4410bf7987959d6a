"""Starts workers as forks of a template, which is renewed when it is out of date. Runs in the master; Linux only."""

import logging
from collections.abc import Callable, Sequence

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.kernel.surroundings import surroundings
from eggcluster.modes.forked_worker import ForkedWorker
from eggcluster.modes.process import Place, place_now, start_by_process
from eggcluster.modes.starter import Starter
from eggcluster.modes.template_handle import BaseTemplate, TemplateHandle, TemplateUser
from eggcluster.modes.worker_handle import WorkerHandle

_logger = logging.getLogger("eggcluster.master")


class TemplateStarter(Starter):
    """Holds the base template, from the first worker on. `on_settled` is called when a worker is no longer pending.

    The template is renewed with the first worker after a reload, so that a reload loads what is installed now, unless
    only files of the application have changed, of which it holds nothing; when its surroundings are no longer the
    master's; and when it has died.
    """

    def __init__(self, on_settled: Callable[[], None]) -> None:
        super().__init__(start_by_process)
        self.on_settled = on_settled
        self.templates: list[TemplateHandle] = []  # with those that are ending
        self._current: BaseTemplate | None = None
        self._renewals = 0  # the renewals before the current one was started
        self._unfit_since: int | None = None  # the renewals before it turned out that templates do not work here

    def start(self, spec: WorkerSpec, fds: Sequence[int]) -> WorkerHandle:
        template = self.template_for(spec)
        if template is None:
            return super().start(spec, fds)
        try:
            worker = ForkedWorker(spec, fds)
        except OSError:  # it needs more file descriptors, for a moment
            return super().start(spec, fds)
        try:
            template.ask(worker)
        except OSError:
            worker.start_itself()
        return worker

    @property
    def is_pending(self) -> bool:
        return any(template.has_pending for template in self.templates)

    @property
    def own_pids(self) -> set[int]:
        self.templates = [template for template in self.templates if not template.is_gone]
        return {template.pid for template in self.templates}

    async def end(self, limit: float) -> None:
        for template in self.templates[::-1]:
            await template.end(limit)

    def template_for(self, spec: WorkerSpec) -> TemplateHandle | None:
        """Return a template that is up to date; None if the worker has to be started as a fresh interpreter."""
        return self.base_for(spec)

    def base_for(self, spec: WorkerSpec) -> BaseTemplate | None:
        """Return a base template that is up to date; None if there is none to be had."""
        if self._unfit_since == spec.renewals:
            return None
        place = place_now(spec.options)
        if self._current is None or self._is_out_of_date(self._current, spec, place):
            self._renew(spec, place)
        return self._current

    def _is_out_of_date(self, template: BaseTemplate, spec: WorkerSpec, place: Place) -> bool:
        return template.is_dead or self._renewals != spec.renewals or template.surroundings != surroundings(*place)

    def _renew(self, spec: WorkerSpec, place: Place) -> None:
        if self._current is not None:
            self._current.retire()
            self._current = None
        user = TemplateUser(self.on_settled, self._on_unfit, lambda order: order.start_itself())
        try:
            self._current = BaseTemplate(spec, place, user)
        except OSError:
            return
        self._renewals = spec.renewals
        self.templates.append(self._current)

    def _on_unfit(self, why: str) -> None:
        _logger.warning("workers are started as fresh interpreters, the template forks none: %s", why)
        self._unfit_since = self._renewals
        if self._current is not None:
            self._current.retire()
            self._current = None
