import json
from pathlib import Path

import fp4guard as fg
from fp4guard.fuzzing.campaign import Search
from fp4guard.report.summary import of_searches

GEMM = "kernels.gemm_afp4wfp4::gemm_afp4wfp4"
CASE = {"m": 5, "n": 7, "k": 160, "config": "BM4_BN16_BK128", "dtype": "fp32"}


def test_summary_is_json_with_every_finding():
    report = fg.examine(GEMM, defect="scale-k-unmasked", seed=9, **CASE)
    search = Search(report.target, 5, 1.23456, [report], complete=True)
    broken = Search(report.target, error=ValueError("why"))
    summary = of_searches([search, broken], {id(report): Path("repro/x.py")}, interrupted=True)
    assert json.loads(json.dumps(summary)) == summary
    assert {key: summary[key] for key in ("cases", "findings", "interrupted")} == {
        "cases": 5,
        "findings": len(report.findings),
        "interrupted": True,
    }
    done, failed = summary["targets"]
    assert (done["target"], done["cases"], done["seconds"], done["complete"]) == (report_spec(report), 5, 1.235, True)
    assert done["error"] is None
    assert (failed["error"], failed["complete"], failed["findings"]) == ("why", False, [])
    for row, finding in zip(done["findings"], report.findings, strict=True):
        assert row["case"] == {"arguments": CASE, "seed": 9, "regime": "exact", "layout": 0}
        assert (row["kind"], row["tensor"], row["line"], row["offset"]) == (
            finding.kind,
            finding.tensor,
            finding.line,
            finding.offset,
        )
        assert row["programs"] == [list(program) for program in finding.programs]
        assert (row["message"], row["arch"], row["defect"]) == (finding.message, "sm_90", "scale-k-unmasked")
        assert row["repro"] == "repro/x.py"


def report_spec(report):
    return f"kernels.gemm_afp4wfp4::{report.target.name}"
