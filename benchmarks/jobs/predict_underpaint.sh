underpaint predict runs/finetuned ./pictures --json predictions.json
