underpaint eval linear runs/mae dataset=./pictures
