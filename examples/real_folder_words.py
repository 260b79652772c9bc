"""Words of the tags that ``real_folder.py`` plants: topics in four languages, their surroundings and misspellings."""

from __future__ import annotations

WORDS = {
    "animal": ("animal", "Tier", "animal", "animal"),
    "bird": ("bird", "Vogel", "oiseau", "pájaro"),
    "fish": ("fish", "Fisch", "poisson", "pez"),
    "insect": ("insect", "Insekt", "insecte", "insecto"),
    "dinosaur": ("dinosaur", "Dinosaurier", "dinosaure", "dinosaurio"),
    "mammal": ("mammal", "Säugetier", "mammifère", "mamífero"),
    "cat": ("cat", "Katze", "chat", "gato"),
    "dog": ("dog", "Hund", "chien", "perro"),
    "plant": ("plant", "Pflanze", "plante", "planta"),
    "flower": ("flower", "Blume", "fleur", "flor"),
    "tree": ("tree", "Baum", "arbre", "árbol"),
    "food": ("food", "Essen", "nourriture", "comida"),
    "fruit": ("fruit", "Obst", "fruit", "fruta"),
    "vegetable": ("vegetable", "Gemüse", "légume", "verdura"),
    "dessert": ("dessert", "Nachtisch", "dessert", "postre"),
    "drink": ("drink", "Getränk", "boisson", "bebida"),
    "vehicle": ("vehicle", "Fahrzeug", "véhicule", "vehículo"),
    "airplane": ("airplane", "Flugzeug", "avion", "avión"),
    "ship": ("ship", "Schiff", "bateau", "barco"),
    "car": ("car", "Auto", "voiture", "coche"),
    "building": ("building", "Gebäude", "bâtiment", "edificio"),
    "house": ("house", "Haus", "maison", "casa"),
    "monument": ("monument", "Denkmal", "monument", "monumento"),
    "flag": ("flag", "Flagge", "drapeau", "bandera"),
    "thing": ("thing", "Ding", "chose", "cosa"),
    "tool": ("tool", "Werkzeug", "outil", "herramienta"),
    "furniture": ("furniture", "Möbel", "meuble", "mueble"),
    "computer": ("computer", "Rechner", "ordinateur", "ordenador"),
    "toy": ("toy", "Spielzeug", "jouet", "juguete"),
    "clothing": ("clothing", "Kleidung", "vêtement", "ropa"),
    "leisure": ("leisure", "Freizeit", "loisir", "ocio"),
    "music": ("music", "Musik", "musique", "música"),
    "sport": ("sport", "Sport", "sport", "deporte"),
    "holiday": ("holiday", "Feiertag", "fête", "fiesta"),
    "people": ("people", "Leute", "gens", "gente"),
    "nature": ("nature", "Natur", "nature", "naturaleza"),
    "landscape": ("landscape", "Landschaft", "paysage", "paisaje"),
    "planet": ("planet", "Planet", "planète", "planeta"),
    "wallpaper": ("wallpaper", "Hintergrundbild", "fond d'écran", "fondo"),
    "zoo": ("zoo", "Tierpark", "ménagerie", "zoológico"),
    "garden": ("garden", "Garten", "jardin", "jardín"),
    "kitchen": ("kitchen", "Küche", "cuisine", "cocina"),
    "street": ("street", "Straße", "rue", "calle"),
    "museum": ("museum", "Museum", "musée", "museo"),
    "workshop": ("workshop", "Werkstatt", "atelier", "taller"),
    "sea": ("sea", "Meer", "mer", "mar"),
    "sky": ("sky", "Himmel", "ciel", "cielo"),
    "market": ("market", "Markt", "marché", "mercado"),
    "school": ("school", "Schule", "école", "escuela"),
}
"""Concept: its words in English, German, French and Spanish."""

PARENTS = {
    "animal": "bird fish insect dinosaur mammal",
    "mammal": "cat dog",
    "plant": "flower tree",
    "food": "fruit vegetable dessert drink",
    "vehicle": "airplane ship car",
    "building": "house monument",
    "thing": "tool furniture computer toy clothing flag",
    "leisure": "music sport holiday",
    "nature": "landscape planet",
}
SURROUNDINGS = {
    "zoo": "bird fish insect mammal cat animal",
    "garden": "bird insect cat dog flower tree plant vegetable fruit",
    "kitchen": "fruit vegetable dessert drink food furniture",
    "market": "fruit vegetable dessert food clothing fish",
    "street": "car vehicle house building people dog flag",
    "museum": "dinosaur monument airplane music toy planet",
    "workshop": "tool car computer",
    "sea": "fish ship landscape drink",
    "sky": "bird airplane planet landscape flag monument",
    "school": "people sport music computer holiday toy",
}
"""Further tags of images: surroundings, and the topics beside which they stand."""

MISSPELT = {
    "bird": "brid",
    "flower": "flwoer",
    "fruit": "fruti",
    "vehicle": "vehical",
    "vegetable": "vegtable",
    "animal": "anmial",
    "building": "buliding",
    "monument": "monumnet",
    "house": "huose",
    "landscape": "landscpae",
    "people": "poeple",
    "mammal": "mamal",
    "computer": "compter",
    "holiday": "holliday",
    "kitchen": "kichten",
    "garden": "gardne",
    "Vogel": "Vogle",
    "Gebäude": "Gebaüde",
    "Säugetier": "Säugteier",
    "bâtiment": "batîment",
    "mammifère": "mamifère",
    "herramienta": "heramienta",
    "edificio": "edifcio",
}
"""Word: how it is misspelt."""


def chain(topic: str) -> list[str]:
    """A topic with the ones above it, the most general first."""
    above = next((parent for parent, children in PARENTS.items() if topic in children.split()), None)
    return [*(chain(above) if above else []), topic]
