underpaint train finetune_laptop data.source=./pictures init_from=runs/mae budget.samples=320 budget.warmup=32 --out runs/finetuned
underpaint eval accuracy runs/finetuned dataset=./pictures
