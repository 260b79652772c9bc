"""The examples below the help of each command."""

from __future__ import annotations

EXAMPLES = {
    "prepare": """\
examples:
  underpaint prepare ./photos --out sets/photos
  underpaint prepare ./photos posts.csv --out sets/photos --tags tags.parquet --vocabulary-size 5000
  underpaint prepare ./laion/shards --out sets/laion --mapping mine.csv
  underpaint prepare ./more_shards --out sets/laion
  underpaint train wsp_vit_b16 data=sets/laion --out runs/wsp
Sources: folders of images (with class folders, .txt, .json or tags.csv), tables (.csv, .tsv, .parquet, YFCC100M's) and
tar shards, which are read where they lie. Run the same command again to continue; a further source is added.""",
    "train": """\
examples:
  underpaint train mae_laptop
  underpaint train mae_vit_b16 data.source=/data/images budget.samples=50_000_000 budget.warmup=2_500_000 --out runs/mae
  underpaint train wsp_vit_b16 data.source=/data/images data.tags=tags.csv init_from=runs/mae --out runs/mae_wsp
  underpaint train my_lab.recipes:mae_satellite --dry-run
Run the same command again to continue after an interruption.""",
    "eval": """\
examples:
  underpaint eval linear runs/mae dataset=digits
  underpaint eval lowshot runs/mae_wsp dataset=./my_images shots=1
  underpaint eval accuracy runs/finetuned dataset=digits""",
    "study": """\
examples:
  underpaint study stages
  underpaint study stages --size smoke --out /tmp/smoke
  underpaint study stages --images ./photos --tags tags.csv --labels labels.csv
  underpaint study stages wsp.budget.samples=50_000 mae.precision=bf16 --out runs/longer
  underpaint study stages --baseline weights/mae_vit_b16 --baseline weights/maws_clip
  underpaint study stages --plan
Run the same command again to continue; finished parts are skipped.""",
    "plan": """\
examples:
  underpaint plan mae_vit_l16 --gpus 64 --device h100 --price 2.5
  underpaint plan wsp_vit_6.5b14 --gpus 256 --device h100 --samples 5_000_000_000 --json plan.json
  underpaint plan --calibrate
  underpaint plan mae_laptop
  underpaint plan mae_vit_b16 objective.decoder.depth=1 parallel.recompute_pointwise=true --gpus 8 --device a100-40
A plan that cannot fit is refused (exit code 2), with what would.""",
    "import": """\
examples:
  underpaint import mae_pretrain_vit_base.pth --out weights/mae_vit_b16
  underpaint import ./vit-base-patch16-224 --out weights/vit_b16
  underpaint import encoder.pth heads=12 licence=Apache-2.0 --out weights/mine
  underpaint import vit_b16_xlmr_b.pt tokenizer=xlmr.sentencepiece.bpe.model --out weights/maws_clip
  underpaint train wsp_vit_b16 data.source=./photos data.tags=tags.csv init_from=weights/mae_vit_b16 --out runs/wsp
Nothing that a file holds is run: weights alone are read.""",
    "export": """\
examples:
  underpaint export runs/mae_wsp --to timm --out exported/timm
  underpaint export runs/mae_wsp/encoder --to hf --out exported/hf
  underpaint export runs/finetuned --to onnx --out exported/onnx""",
    "embed": """\
examples:
  underpaint embed runs/mae_wsp ./photos --out features.parquet
  underpaint embed runs/mae_wsp one.jpg two.jpg --pooling mean --out features.parquet
Run the same command again to continue after an interruption.""",
    "predict": """\
examples:
  underpaint predict runs/mae_wsp one.jpg
  underpaint predict runs/mae_wsp ./photos --top 3 --json tags.json
  underpaint predict weights/maws_clip ./photos --labels names.txt --prompts "a photo of a {}." "a drawing of a {}."
names.txt has a label per line, with further names behind a semicolon: dog; puppy""",
    "report": """\
examples:
  underpaint report runs/stages_tiny
  underpaint report runs/mae_laptop --no-images
  underpaint report sets/photos""",
    "list": """\
examples:
  underpaint list
  underpaint list --source mae_vit_b16""",
}
