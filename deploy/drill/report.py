"""What is said of a drill in the end, and whether all that was promised held."""

from dataclasses import dataclass

from deploy.drill.load import Seen


@dataclass
class Report:
    behind: str
    seen: Seen
    drained: int  # the exit code of the one that was
    generations: list[int]
    limits: str = "not looked at: without stores"
    limits_hold: bool = True
    ledger: str = "not looked at: without stores"
    ledger_holds: bool = True

    @property
    def available(self) -> bool:
        cut = sum(count for phase, count in self.seen.cut.items() if phase != "killed")
        return not self.seen.failed.total() and not cut and self.drained == 0 and min(self.generations) > 1

    @property
    def holds(self) -> bool:
        return self.available and self.limits_hold and self.ledger_holds

    def __str__(self) -> str:
        seen = self.seen
        rows = [f"three routers behind {self.behind}", ""]
        rows.append(
            f"{'phase':<10}{'answered':>10}{'hidden by a retry':>20}{'failed':>8}{'streams cut':>13}{'slowest':>9}"
        )
        for phase, slowest in seen.slowest.items():
            counts = f"{seen.answered[phase]:>10}{seen.hidden[phase]:>20}{seen.failed[phase]:>8}{seen.cut[phase]:>13}"
            rows.append(f"{phase:<10}{counts}{slowest:>8.1f}s")
        rows += ["", f"failed beyond a client's own retry: {seen.failed.total()} (wanted: 0)"]
        rows.append(
            f"streams cut on the drained router: {seen.cut['drained']} (wanted: 0), its exit code {self.drained}"
        )
        rows.append(f"streams cut on the killed router: {seen.cut['killed']} (nothing can hide these)")
        rows.append(f"generations of the configuration after the reload: {self.generations}")
        rows += [f"limits over the three: {self.limits}", f"ledger: {self.ledger}"]
        rows += [f"  {count} × {reason}" for reason, count in seen.reasons.most_common(8)]
        return "\n".join(rows)
