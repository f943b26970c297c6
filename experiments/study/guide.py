"""How to read the tables of a study: a sentence or two for each kind of column."""

GUIDE = (
    "A cell is the mean ± the sample standard deviation over seeds.",
    "**Dice, clDice**: in %, pooled over all sites' test frames and both classes; the "
    "Dice is the number that a run reports as `test/dice`.",
    "**Δ**: points of Dice above the other row, paired by seed; in brackets the 95 % "
    "bootstrap interval over seeds; then the seeds in which the row is above. With "
    "three seeds the interval is the range of the three, which holds the truth in "
    "about 3 of 4 cases; with fewer none is claimed. Student's t, where it stands, "
    "keeps the 95 % if differences are normal.",
    "**Δ per site**: the same of the mean over sites of a site's Dice, drawn over "
    "seeds and sites.",
    "**HD95, breaks**: means over frames and classes that show the device. HD95 leaves "
    "out those where nothing is predicted; these are **missed**, in %.",
    "**Worst site, sd of sites**: of the sites' Dice in %, the population's deviation.",
    "**Bold**: in each section the highest mean Dice, nothing else. It is picked by "
    "test frames, which flatters sections of many rows.",
    "**unseen, n-shot**: Dice in % on a domain of which no silo has labels, on the "
    "same patients for every row and seed; as the model came, and after finetuning on "
    "n labelled frames of other patients, mean over the draws. All rows have the same "
    "frames, steps, learning rate and batch size (those that train without a warm-up "
    "of the learning rate finetune without it); the last step's network is tested. "
    "Rows at home give their accumulated model, not the silos' own.",
    "**to 90 %**: of the pooled row's final validation Dice with the same seed, mean "
    "over the seeds that came so far; only of rows whose accumulated model is judged.",
    "**steps**: gradient steps that a silo takes for its own model, for others' models "
    "on its frames (abroad), that the server takes, and that follow one another "
    "(sequential). **MB**: both ways, all silos. **seconds**: of the silos' "
    "training, one silo after another, on the machine with other work beside it.",
    "**Dice against traffic**: means over seeds; bars are the sample standard "
    "deviation. The line holds the rows that none beats with the same bytes or fewer. "
    "Left out are rows that send nothing and those judged by silos' own models; an "
    "oracle knows what no hospital does and is never on the line.",
)
