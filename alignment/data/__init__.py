"""What is learnt from: texts, dialogues, pairs and judgments, as rows, token ids and batches."""
