underpaint train mae_laptop data.source=./pictures budget.samples=640 budget.warmup=64 --out runs/mae
